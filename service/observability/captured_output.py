"""What libraries, the interpreter and the system print, as lines of the log.

libtiff, onnxruntime and a traceback write plain text to file descriptor 2. Where the log is JSON, a process' standard
output and error lead into a pipe; a thread reads it and logs each line. What is in the pipe when the process dies, such
as what a crash has printed, the supervisor reads and logs.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import io
import logging
import os
import select
import sys
import threading
from typing import Final

log = logging.getLogger("kernelscope.output")

_PIPE_BYTES: Final = 2**20
_LONGEST: Final = 8192
"""Bytes of a line; a longer one is logged in pieces."""
_END_SECONDS: Final = 0.5
_CRASH_SECONDS: Final = 0.1
"""How long what is printed stays in the pipe: a process that dies of what it has said leaves that to the supervisor."""


class OutputPipe:
    """The pipe that a process' output goes into; made before the process is forked."""

    def __init__(self) -> None:
        self.reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)  # who prints must not wait, and may hold the interpreter's lock
        with contextlib.suppress(OSError):  # as large as the system lets it be
            fcntl.fcntl(self._writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def keep_reading_end(self) -> None:
        """In the process that reads what is left."""
        os.close(self._writing)

    def read_rest(self) -> None:
        """Log what a process has left, and close."""
        os.set_blocking(self.reading, False)
        rest = b""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.reading, 65536):
                rest += data
        os.close(self.reading)
        for line in rest.splitlines():
            _log(line)

    def capture(self) -> Capture:
        """Lead standard output and error of this process into the pipe."""
        return Capture(self.reading, self._writing)


class Capture:
    """Standard output and error that lead into a pipe.

    Attributes:
        output: file descriptor of what has been standard output.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = reading
        sys.stdout.flush()
        sys.stderr.flush()
        self.output, self._errors = os.dup(1), os.dup(2)
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        os.close(writing)
        sys.stdout, sys.stderr = _Printed(1), _Printed(2)
        faulthandler.enable(2)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)

    def start(self) -> None:
        """Log what is printed, from now on."""
        self._thread.start()

    def end(self) -> None:
        """Let output go where it went before; what has been printed is logged, within a bounded time."""
        os.dup2(self.output, 1)
        os.dup2(self._errors, 2)
        self._ending.set()
        self._thread.join(_END_SECONDS)  # a child of this process may still have the pipe open

    def _run(self) -> None:
        rest = b""
        while data := self._read():
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > _LONGEST:
                lines, rest = [*lines, rest], b""
            for line in lines:
                _log(line)
        _log(rest)

    def _read(self) -> bytes:
        select.select([self._reading], [], [])
        self._ending.wait(_CRASH_SECONDS)
        return os.read(self._reading, 65536)


class _Printed(io.TextIOBase):
    """Standard output or error: what finds no room in the pipe is lost."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            os.write(self._descriptor, text.encode(errors="backslashreplace"))
        return len(text)

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True


def _log(line: bytes) -> None:
    text = line.decode(errors="backslashreplace").rstrip()
    if text:
        log.warning("%s", text, extra={"fields": {"source": "output"}})
