from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.support.images import image
from tests.support.server import Server


def test_promtool_finds_nothing_to_say(server: Server) -> None:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed: it comes with Debian's package prometheus")
    server.client.post("/predict", content=image())
    page = server.client.get("/metrics").content
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
