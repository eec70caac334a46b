"""Decodes images in processes of their own: a small process that forks one for each image.

What decoding takes cannot be told from an image's bytes: a few hundred of them may keep a codec busy for minutes, or
make it allocate gigabytes. So an image that nothing is proven of (`cheap`) is decoded in a fork of this process, under
limits that the kernel keeps: of memory, of processor time, and of time by the clock. This process imports nothing but
NumPy, Pillow and `contract`, and has one thread, so that a fork takes milliseconds and little memory.

It is started by a process that serves (`decode_pool`), and gets a socket for each image through the socket that it was
started with: the fork reads a `Job` from it and writes its reply. When the fork has ended, this process adds its exit
status. Whoever closes the other end kills the fork. When the process that serves ends, however it does, so do this one
and its forks.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import math
import os
import resource
import select
import signal
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from PIL import Image

from contract import decode_memory, preprocessing
from contract.errors import ImageError
from contract.preprocessing import ResizeMode

PIXELS: Final = b"P"
NEEDS: Final = b"N"
REFUSED: Final = b"R"
EXCEEDS: Final = b"E"
"""How a reply begins: uint8 pixels follow; or how many bytes decoding takes (`SIZE`), where that is more than the job
allows; or an error's code and message, as JSON; or nothing, where it took more than its header told."""
SIZE: Final = struct.Struct("<q")
STATUS: Final = struct.Struct("<4si")
"""What ends a reply: `ENDED`, and the exit code of the fork, negative for the signal that ended it."""
ENDED: Final = b"exit"

_HEAD: Final = struct.Struct("<ddqqIIBq")
NICENESS: Final = 10
"""At which it is started: requests that need no process of their own go first where cores are scarce."""
_FIRST_TO_BE_KILLED: Final = "1000"
"""Linux' `oom_score_adj`: where memory runs out, the kernel ends a decoder and not a process that serves."""
_SLACK: Final = 16 * 2**20
"""Address space beyond what decoding is said to take: the interpreter's own, and what the heap leaves unused."""
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True)
class Job:
    """An image and the limits of its decoding.

    Attributes:
        data: the encoded image.
        height, width, mode: as `preprocessing.finish` takes them.
        max_pixels: as `preprocessing.open_header` takes it.
        memory: bytes that decoding may take by `decode_memory`; where it would take more, the reply says how many.
        seconds: until the fork is ended.
        processor_seconds: that it may use; they are rounded up.
    """

    data: bytes
    height: int
    width: int
    mode: ResizeMode
    max_pixels: int
    memory: int
    seconds: float
    processor_seconds: float

    def head(self) -> bytes:
        """All but the image, whose bytes follow."""
        return _HEAD.pack(
            self.seconds,
            self.processor_seconds,
            self.max_pixels,
            self.memory,
            self.height,
            self.width,
            preprocessing.RESIZE_MODES.index(self.mode),
            len(self.data),
        )


class _Server:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._forks: dict[int, socket.socket] = {}  # by process id
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._woken, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._poll.register(self._woken, select.POLLIN)

    def run(self) -> None:
        """Fork for each socket that comes, until the process that serves has ended."""
        while True:
            ready = {descriptor for descriptor, _ in self._poll.poll()}
            # first those that may be closed below, whose numbers new ones may get
            for descriptor in ready - {self._woken, self._control.fileno()}:
                self._kill(descriptor)
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._reap()
            if self._control.fileno() in ready:
                _, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
                if not descriptors:
                    return
                self._fork(descriptors[0])

    def _fork(self, descriptor: int) -> None:
        server = os.getpid()
        pid = os.fork()
        if not pid:
            try:
                _run(descriptor, server)
            finally:
                os._exit(1)
        self._forks[pid] = socket.socket(fileno=descriptor)
        self._poll.register(descriptor, 0)  # tells when the other end is closed, and of nothing else

    def _kill(self, descriptor: int) -> None:
        """Nobody waits for this one any more."""
        self._poll.unregister(descriptor)
        for pid, job in self._forks.items():
            if job.fileno() == descriptor:
                os.kill(pid, signal.SIGKILL)  # it is there: ended children are kept until they are reaped

    def _reap(self) -> None:
        while self._forks:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            job = self._forks.pop(pid)
            with contextlib.suppress(KeyError):  # it has been killed
                self._poll.unregister(job)
            with contextlib.suppress(OSError):  # nobody waits for it
                job.send(STATUS.pack(ENDED, os.waitstatus_to_exitcode(status)), socket.MSG_DONTWAIT)
            job.close()


def _run(descriptor: int, server: int) -> None:
    """What a fork does; never returns."""
    signal.set_wakeup_fd(-1)
    _end_with(server)
    os.closerange(3, descriptor)  # another fork's socket must not stay open here
    os.closerange(descriptor + 1, 2**16)
    with socket.socket(fileno=descriptor) as connection:
        with connection.makefile("rb") as stream:
            job = _receive(stream)
        connection.sendall(_reply(job))
    os._exit(0)


def _end_with(server: int) -> None:
    """Let the kernel end this fork when the process that forked it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:  # it was faster
        os._exit(1)


def _receive(stream: BinaryIO) -> Job:
    seconds, processor_seconds, max_pixels, memory, height, width, mode, length = _HEAD.unpack(stream.read(_HEAD.size))
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    limit = math.ceil(processor_seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))  # SIGXCPU, and SIGKILL a second later
    resize_mode = preprocessing.RESIZE_MODES[mode]
    return Job(stream.read(length), height, width, resize_mode, max_pixels, memory, seconds, processor_seconds)


def _reply(job: Job) -> bytes:
    needs = decode_memory.claimed(job.data)
    if needs > job.memory:
        return NEEDS + SIZE.pack(needs)
    _limit_memory(job.memory)
    try:
        image = preprocessing.open_header(job.data, max_pixels=job.max_pixels)
        needs = decode_memory.needed(image, len(job.data), job.height, job.width, job.mode)
        if needs > job.memory:
            return NEEDS + SIZE.pack(needs)
        return PIXELS + preprocessing.finish(image, job.height, job.width, job.mode).tobytes()
    except ImageError as error:
        if isinstance(error.__context__, MemoryError):
            return EXCEEDS
        return REFUSED + json.dumps([error.code, str(error)]).encode()


def _limit_memory(size: int) -> None:
    """Let this process have so many bytes more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + size + _SLACK
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main(control: int) -> None:
    """Serve until the other end of a socket is closed.

    Args:
        control: the socket's descriptor.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # the process that serves decides when this one ends
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # not allowed: then the kernel chooses
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_BE_KILLED)
    Image.init()  # every format's module, here and not in each fork
    gc.disable()
    gc.freeze()  # forks share what is not written to
    with socket.socket(fileno=control) as connection:
        _Server(connection).run()
