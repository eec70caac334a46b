"""What processes take: of memory those of a server, of the processors all that are not ours."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.server import Server

_INTERVAL = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and all that come from it."""
    found = [pid]
    for parent in found:
        with suppress(OSError):  # it has ended
            for children in Path(f"/proc/{parent}/task").glob("*/children"):
                found += map(int, children.read_text().split())
    return found


def memory(pid: int) -> int:
    """Bytes that a process and all that come from it hold, what they share counted once."""
    total = 0
    for member in family(pid):
        with suppress(OSError, StopIteration):
            text = Path(f"/proc/{member}/smaps_rollup").read_text()
            total += 1024 * int(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1])
    return total


@dataclass
class Peak:
    """The most memory that was held at one moment, in bytes."""

    size: int = 0


@contextmanager
def watching_memory(server: Server) -> Iterator[Peak]:
    """Look at a server's memory while the block runs."""
    peak, ended = Peak(), threading.Event()

    def watch() -> None:
        while not ended.wait(_INTERVAL):
            peak.size = max(peak.size, memory(server.process.pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def processor_time(pid: int) -> float:
    """Seconds that a process and all that come from it, or have come and ended, have run."""
    total = 0
    for member in family(pid):
        with suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text().rsplit(")", 1)[1].split()
            total += sum(map(int, fields[11:15]))
    return total / _TICKS


def _busy() -> tuple[float, float]:
    """Seconds that the machine's processors have run, and that they might have."""
    user, nice, system, idle, wait, *others = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    run = user + nice + system + sum(others)
    return run / _TICKS, (run + idle + wait) / _TICKS


@dataclass
class Others:
    """What is not ours on this machine.

    Attributes:
        share: of the processors' time, that other processes had.
    """

    share: float = 0.0


@contextmanager
def watching_others() -> Iterator[Others]:
    """Measure what this process, and what comes from it, does not get while the block runs."""
    found, own, (run, all_of_it) = Others(), processor_time(os.getpid()), _busy()
    try:
        yield found
    finally:
        run_now, all_now = _busy()
        ours = processor_time(os.getpid()) - own
        found.share = max(0.0, run_now - run - ours) / max(all_now - all_of_it, 1 / _TICKS)
