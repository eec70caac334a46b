"""A real server in a process of its own, on a port of its own."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parent.parent.parent
SHIPPED = ROOT / "models" / "cifar10" / "3"
"""The newest version of the model that ships: int8, with its float32 form beside it."""
END_SECONDS = 20
"""A server that takes longer than this to end hangs."""


@dataclass
class Server:
    """A running `kernelscope serve`."""

    process: subprocess.Popen[str]
    url: str
    client: httpx.Client
    lines: list[str]
    reader: threading.Thread

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; returns its exit code. What it printed is in `lines` then."""
        self.process.send_signal(number)
        code = self.process.wait(END_SECONDS)
        self.reader.join()
        return code

    def log(self) -> list[dict[str, Any]]:
        """The log lines so far; whole after `end`."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]


def command(*words: str) -> list[str]:
    """The `kernelscope` command, as the module that the script calls."""
    return [sys.executable, "-W", "error", "-m", "kernelscope", *words]


def start(*flags: str, wrapper: Sequence[str] = (), **environment: str) -> Server:
    """Start a server on a free port, and wait for the line that says where it listens.

    Args:
        flags, environment: of the server.
        wrapper: a command that runs the command which follows it.

    KERNELSCOPE_TRUST_CHECKOUT names another checkout whose server it is, to compare with.
    """
    checkout = os.environ.get("KERNELSCOPE_TRUST_CHECKOUT", str(ROOT))
    process = subprocess.Popen(
        [*wrapper, *command("serve", "--port", "0", *flags)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=checkout,
        env={
            "KERNELSCOPE_WORKERS": "1",  # one process starts in half the time of two
            **os.environ,
            "PYTHONPATH": checkout,
            **environment,
        },
    )
    lines: list[str] = []
    said: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:  # to its end: a server whose pipe is full stands still
            lines.append(line.rstrip("\n"))
            match = re.search(r"on (http://\S+|unix:\S+)", line)
            if match:
                said.put(match[1])
        said.put("")

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    url = said.get(timeout=60)
    assert url, "the server did not start:\n" + "\n".join(lines)
    return Server(
        process, url, httpx.Client(base_url=url.replace("unix:", "http://localhost"), timeout=30), lines, reader
    )


def figures(server: Server, client: httpx.Client | None = None) -> dict[str, float]:
    """The samples of the metrics page, by name and labels."""
    page = (client or server.client).get("/metrics").text
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
