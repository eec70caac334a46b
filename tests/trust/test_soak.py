"""Mixed load at 80 % of what the machine can do, with reloads and bad input: none lost, none wrong, memory flat.

For KERNELSCOPE_TRUST_MINUTES: half a minute here, thirty in `make test-trust`. Only a long run has enough requests to
compare its beginning with its end.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support import mixed_load
from tests.support.group import workers
from tests.support.models import ADMIN, ROTATED, colour_bundle, publish
from tests.support.processes import memory, processor_time, watching_others
from tests.support.server import Server, figures

SECONDS = 60 * float(os.environ.get("KERNELSCOPE_TRUST_MINUTES", "0.5"))
IS_LONG = SECONDS >= 600
CAPACITY_SECONDS = 20.0 if IS_LONG else 5.0
"""Measured with the same mixture: bad requests cost the clients more than good ones, which share the machine."""
SHARE = 0.8
PARTS = 6
MOST_LATER = 1.2
"""The 99th percentile of the last part, and what a request costs then, by those of the first."""
MOST_SHED = 0.01
MOST_GROWTH = 30_000_000
"""Bytes, from the end of the first part to the end of the last."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    colour_bundle(tmp_path / "models")
    publish(tmp_path / "models", 2, labels=ROTATED)
    return tmp_path / "models"


@pytest.mark.timeout(SECONDS + 240)
def test_mixed_load(serve: Callable[..., Server], root: Path) -> None:
    server = serve(
        "--models",
        str(root),
        "--workers",
        "2",
        "--log-requests",
        "false",
        KERNELSCOPE_ADMIN_KEY="secret",
        KERNELSCOPE_WATCH="0",
    )
    full = mixed_load.send(server.url, CAPACITY_SECONDS)
    assert not full.wrong, full.wrong[:3]
    rate = SHARE * len(full.latencies) / CAPACITY_SECONDS
    pids, before, ended = workers(server), figures(server), threading.Event()
    held: list[int] = []
    spent = [(time.monotonic(), processor_time(server.process.pid))]
    reloads: list[int] = []

    def reload() -> None:
        for version in itertools.cycle("12"):
            wish = {"parameters": {"version": version}}
            reply = server.client.post("/v2/repository/models/colours/load", json=wish, headers=ADMIN)
            reloads.append(reply.status_code)
            if ended.wait(SECONDS / 60):
                return

    def look() -> None:
        while not ended.wait(SECONDS / (10 * PARTS)):
            held.append(memory(server.process.pid))
            spent.append((time.monotonic(), processor_time(server.process.pid)))

    threads = [threading.Thread(target=reload), threading.Thread(target=look)]
    for thread in threads:
        thread.start()
    with watching_others() as others:
        seen = mixed_load.send(server.url, SECONDS, rate=rate, period=1)
    ended.set()
    for thread in threads:
        thread.join()

    part = SECONDS / PARTS
    percentiles = [seen.percentile(0.99, i * part, (i + 1) * part) for i in range(PARTS)]
    # what a request costs the server tells whether it wears out, whatever the clients and the machine do to the p99
    times, sums = zip(*spent, strict=True)
    costs = np.diff(np.interp(np.linspace(times[0], times[-1], PARTS + 1), times, sums)) * 1000 / (rate * part)
    early, late = (sum(found) / len(found) for found in (held[6:14], held[-8:]))
    print(
        f"{len(seen.latencies):,} requests at {rate:.0f} a second in {SECONDS:.0f} s, {dict(seen.statuses)}; "
        f"{len(reloads)} reloads; p99 by sixths {[f'{1000 * one:.0f} ms' for one in percentiles]}, "
        f"processor time a request {[f'{one:.3f} ms' for one in costs]}; "
        f"memory {early / 1e6:.0f} MB, later {late / 1e6:.0f} MB; others had {others.share:.0%} of the machine"
    )
    assert not seen.lost, seen.lost[:3]
    assert not seen.wrong, seen.wrong[:3]
    assert not [status for status in seen.statuses if status >= 500 and status != 503]
    assert {*reloads} == {200}
    assert workers(server) == pids
    answered = _answers(figures(server)) - _answers(before)
    assert answered == seen.statuses[200] + len(reloads) + 1  # by the server's own count; one asked for that itself
    assert late - early < MOST_GROWTH
    if IS_LONG:
        assert seen.statuses[503] <= MOST_SHED * len(seen.latencies)
        assert percentiles[-1] <= MOST_LATER * percentiles[0], percentiles
        assert costs[-1] <= MOST_LATER * costs[0], costs
    assert server.end() == 0


def _answers(page: dict[str, float]) -> float:
    return sum(value for key, value in page.items() if key.startswith("kernelscope_requests_total") and "'200'" in key)
