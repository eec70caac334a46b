"""The process that explains: it reads tasks from a socket, one after the other, and writes their answers.

It is a process of its own, so that what it computes holds no lock of the server's, its memory is given back when it
ends, and a model that is too large takes nothing but it down. It runs at the lowest priority: what is left over by
`/predict` is its.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import socket
import struct
import sys
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from contract.bundle import MODEL
from contract.errors import KernelscopeError
from service.explanation.tasks import Answer, Task

if TYPE_CHECKING:
    from service.explanation.subject import Subject

LENGTH: Final = struct.Struct("<Q")
"""What stands before each message: its length in bytes."""
KEPT: Final = 2
"""Models that are kept in memory, those asked for last."""
_NICE: Final = 19


class Stream(Protocol):
    """Bytes in and out."""

    def read(self, size: int, /) -> bytes:
        """So many bytes, fewer at the end."""

    def write(self, data: bytes, /) -> int:
        """Send bytes."""

    def flush(self) -> None:
        """Let go of what is held back."""


Files = tuple[tuple[str, int, int], ...]
Subjects = OrderedDict[tuple[Path, Files], "Subject"]


def main(arguments: list[str]) -> None:
    """Serve on the socket whose number is the first argument, with the megabytes of memory in the second."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server that started this one ends it
    _step_back()
    number, megabytes = (int(word) for word in arguments)
    limit = megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    with socket.socket(fileno=number) as connection, connection.makefile("rwb") as stream:
        subjects: Subjects = OrderedDict()
        while (task := receive(stream)) is not None:
            send(stream, _answer(task, subjects))
            _give_back()


def _step_back() -> None:
    """Run only where a core has nothing else to do: beside a process of the lowest niceness, predictions would wait."""
    os.nice(_NICE)
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _give_back() -> None:
    """Return memory that nothing uses any more: the C library keeps 23 MB of what loading the shipped model takes."""
    with suppress(AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def receive(stream: Stream) -> Task | None:
    """The next task; None once the other side has gone."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    body = stream.read(length)
    return pickle.loads(body) if len(body) == length else None  # noqa: S301  # the server's own, on a private socket


def send(stream: Stream, message: object) -> None:
    """Write a message."""
    stream.write(packed(message))
    stream.flush()


def packed(message: object) -> bytes:
    """A message with its length before it."""
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body


def _answer(task: Task, subjects: Subjects) -> Answer | KernelscopeError:
    from service.explanation import answers  # with onnx: when the first task has come
    from service.explanation.subject import Subject

    try:
        key = task.folder, _files(task.folder)
        subject = subjects.pop(key, None) or Subject(task.folder)
        subjects[key] = subject
        while len(subjects) > KEPT:
            subjects.popitem(last=False)
        return answers.answer(task, subject)
    except KernelscopeError as error:
        return error


def _files(folder: Path) -> Files:
    """What a bundle's models are, and when they were written."""
    stats = ((path.name, path.stat()) for path in sorted(folder.glob(f"*{Path(MODEL).suffix}")))
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


if __name__ == "__main__":
    main(sys.argv[1:])
