"""Where log lines go: never so that whoever writes one waits for whoever reads them.

A pipe that nobody reads is full after 64 kB, and a write to it waits for ever. What cannot be written soon is dropped,
counted, and said once there is room again.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

_MOST_BYTES: Final = 4 * 2**20
"""Lines that wait to be written; those beyond are dropped."""
_BATCH_SECONDS: Final = 0.02
"""Lines that come within this time are written together: a thread that wakes for each costs the event loop more."""
_FLUSH_SECONDS: Final = 2.0
"""How long the end of a process waits for its last lines to be read."""
_PIPE_BUF: Final = 4096
"""Bytes that a pipe takes whole, so that lines of several processes do not mix (pipe(7))."""


class Writer(Protocol):
    """Takes lines."""

    def write(self, line: bytes) -> None:
        """Write a line, or drop it; never waits."""

    def close(self) -> None:
        """Write what waits, within a time that is bounded."""


class QueuedWriter:
    """Writes on a thread of its own, which may wait as long as it takes.

    Args:
        descriptor: where to.
        dropped: makes the line that says how many were dropped.
    """

    def __init__(self, descriptor: int, dropped: Callable[[int], bytes]) -> None:
        self._descriptor, self._say_dropped = descriptor, dropped
        self._lines = deque[bytes]()
        self._size = self._dropped = 0
        self._lock, self._ready, self._closing = threading.Lock(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue a line."""
        with self._lock:
            if self._size + len(line) > _MOST_BYTES:
                self._dropped += 1
                return
            self._lines.append(line)
            self._size += len(line)
        if not self._ready.is_set():
            self._ready.set()

    def close(self) -> None:
        """Let the thread write what waits, and end."""
        self._closing.set()
        self._ready.set()
        self._thread.join(_FLUSH_SECONDS)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            self._ready.wait()
            is_last = self._closing.wait(_BATCH_SECONDS)  # then all there will ever be is queued
            with self._lock:
                lines, dropped = list(self._lines), self._dropped
                self._lines.clear()
                self._size = self._dropped = 0
                self._ready.clear()
            if dropped:
                lines.append(self._say_dropped(dropped))
            with contextlib.suppress(OSError):  # nobody reads any more: there is nobody to tell
                for block in _blocks(lines):
                    _write_whole(self._descriptor, block)


class DirectWriter:
    """Writes at once what can be written without waiting: for a process that forks, and so has no threads.

    Args:
        descriptor: where to.
        dropped: makes the line that says how many were dropped.
    """

    def __init__(self, descriptor: int, dropped: Callable[[int], bytes]) -> None:
        self._descriptor, self._say_dropped, self._dropped = descriptor, dropped, 0
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def write(self, line: bytes) -> None:
        """Write a line where there is room."""
        if self._dropped and self._put(self._say_dropped(self._dropped)):
            self._dropped = 0
        if not self._put(line):
            self._dropped += 1

    def close(self) -> None:
        """Nothing waits."""

    def _put(self, line: bytes) -> bool:
        with contextlib.suppress(OSError):
            for start in range(0, len(line), _PIPE_BUF):
                if not self._poll.poll(0):
                    return False
                os.write(self._descriptor, line[start : start + _PIPE_BUF])
        return True


def _blocks(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines joined as far as a pipe takes them whole."""
    block = b""
    for line in lines:
        if len(block) + len(line) > _PIPE_BUF and block:
            yield block
            block = b""
        block += line
    if block:
        yield block


def _write_whole(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
