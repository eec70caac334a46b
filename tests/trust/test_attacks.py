"""While a server is attacked, another client is served, memory is bounded, and it ends as it is asked to afterwards.

Each attack is shown to fail on the code before (docs/reliability.md): KERNELSCOPE_TRUST_CHECKOUT names another checkout
whose server is attacked, and KERNELSCOPE_TRUST_TABLE a file that gets a row for each attack.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import bombs
from tests.support.attack import Attack, carry_out
from tests.support.attacks import ATTACKS
from tests.support.server import Server

SECONDS = 20.0 if float(os.environ.get("KERNELSCOPE_TRUST_MINUTES", "1")) > 1 else 2.0
WORKERS = 2


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photograph") / "photograph.jpg"
    path.write_bytes(bombs.photograph())
    return path


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.kind}: {attack.name}")
def test_another_client_is_served(serve: Callable[..., Server], photograph: Path, attack: Attack) -> None:
    flags = ["--workers", str(WORKERS), "--drain-timeout", "10"]
    server = serve(*flags, **attack.environment)
    if attack.key:
        server.client.headers["X-API-Key"] = attack.key
    report = carry_out(attack, server, photograph, SECONDS, workers=WORKERS)
    print(report.line())
    if table := os.environ.get("KERNELSCOPE_TRUST_TABLE"):
        with Path(table).open("a") as rows:
            rows.write(report.line() + "\n")
    assert not report.faults(), report.line()


def test_each_kind_has_two_variants() -> None:
    """Of those that a bound must hold for, whatever the example."""
    for kind in {attack.kind for attack in ATTACKS} - {"strings"}:
        assert sum(attack.is_variant for attack in ATTACKS if attack.kind == kind) >= 2, kind
