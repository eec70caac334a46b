"""A container of 512 MB with the defaults: attacks are survived, and 12 megapixels always fit.

A control group of the kernel sets the limit, of version 2 or 1 as the machine has it; making one takes root.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contract.formats import FORMATS
from tests.support import bombs
from tests.support.attack import Attack, carry_out
from tests.support.attacks import ATTACKS
from tests.support.group import workers
from tests.support.places import memory_group
from tests.support.server import Server

LIMIT = 512 * 2**20
SECONDS = 2.0
IS_LONG = float(os.environ.get("KERNELSCOPE_TRUST_MINUTES", "1")) > 1
ON_MEMORY = [attack for attack in ATTACKS if attack.kind == "memory" and not attack.is_variant]
"""The attacks that are tried here in any case; a long run tries all of them."""
DEFAULTS = {"KERNELSCOPE_WORKERS": "0"}
OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {"compress_level": 1},
    "TIFF": {"compression": "tiff_lzw"},
    "AVIF": {"speed": 10},
}


@pytest.mark.parametrize("attack", ATTACKS if IS_LONG else ON_MEMORY, ids=lambda attack: attack.name)
def test_attacks_are_survived(serve: Callable[..., Server], tmp_path: Path, attack: Attack) -> None:
    photograph = tmp_path / "photograph.jpg"
    photograph.write_bytes(bombs.photograph())
    with memory_group(LIMIT) as group:
        server = serve("--drain-timeout", "10", wrapper=group.wrapper, **DEFAULTS, **attack.environment)
        if attack.key:
            server.client.headers["X-API-Key"] = attack.key
        report = carry_out(attack, server, photograph, SECONDS, workers=len(workers(server)))
        seen = f"{report.line()} {group.most / 1e6:.0f} MB at most, {group.killed} killed by the kernel"
        print(seen)
        assert not report.pids_changed, seen
        assert report.recovered, seen
        assert report.exit_code == 0, seen


def test_twelve_megapixels_fit_in_every_format(serve: Callable[..., Server]) -> None:
    rows = np.linspace(0, 255, 3000, dtype=np.uint8)[:, None]
    image = Image.fromarray(np.broadcast_to(rows, (3000, 4000)).copy())
    with memory_group(LIMIT) as group:
        server = serve(wrapper=group.wrapper, **DEFAULTS)
        for kind in FORMATS:
            out = io.BytesIO()
            # as RGB a BMP is longer than a body may be
            (image if kind == "BMP" else image.convert("RGB")).save(out, kind, **OPTIONS.get(kind, {}))
            for _ in range(2):
                reply = server.client.post("/predict", content=out.getvalue())
                assert reply.status_code == 200, f"{kind}: {reply.text}"
        assert group.killed == 0
        assert server.end() == 0


def test_what_does_not_fit_is_refused_and_told_the_limit(serve: Callable[..., Server]) -> None:
    with memory_group(LIMIT) as group:
        server = serve(wrapper=group.wrapper, **DEFAULTS)
        reply = server.client.post("/predict", content=bombs.deep_png())
        assert reply.status_code == 413, reply.text
        assert "KERNELSCOPE_IMAGE_MEMORY" in reply.json()["error"]["message"]
        assert group.killed == 0
        assert server.end() == 0
