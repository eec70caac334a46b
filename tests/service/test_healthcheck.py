"""The image's health check: it asks where the service listens, whatever else the environment says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.server import ROOT, Server


def check(**environment: str) -> int:
    words = [sys.executable, "-m", "service.healthcheck"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KERNELSCOPE_")}
    return subprocess.run(words, cwd=ROOT, env={**kept, **environment}, check=False, capture_output=True).returncode


def test_it_finds_the_port(server: Server) -> None:
    port = server.url.rpartition(":")[2]
    for host in ("", "127.0.0.1", "0.0.0.0"):  # noqa: S104 -- as the image sets it
        assert check(KERNELSCOPE_PORT=port, KERNELSCOPE_HOST=host, http_proxy="http://127.0.0.1:1") == 0


@pytest.mark.parametrize("port", ["1", "tcp://10.96.0.1:80", ""])
def test_no_answer_is_no_health(port: str) -> None:
    assert check(KERNELSCOPE_PORT=port, KERNELSCOPE_HOST="127.0.0.77") == 1


def test_it_asks_a_unix_socket(serve: Callable[..., Server], colours: Path, tmp_path: Path) -> None:
    host = f"unix:{tmp_path / 'socket'}"
    server = serve("--models", str(colours), "--host", host, KERNELSCOPE_PORT="tcp://10.96.0.1:80")
    assert check(KERNELSCOPE_HOST=host, KERNELSCOPE_PORT="tcp://10.96.0.1:80") == 0
    assert server.end() == 0
    assert check(KERNELSCOPE_HOST=host) == 1
