"""This process' side of `decode_server`: hands images over, and gets pixels back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from typing import Final

import numpy as np

from contract.errors import ImageError, ImageTooLarge, UndecodableImage
from contract.preprocessing import Pixels
from service.inference import decode_server
from service.inference.decode_server import Job

SMALL_MEMORY: Final = 24 * 2**20
"""Bytes that decoding a small image takes at most; one that takes more is large."""
_CHUNK: Final = 2**18
_END_SECONDS: Final = 5.0
"""Until a decode server that does not end by itself is ended."""
_ERRORS: Final = {kind.code: kind for kind in ImageError.__subclasses__()}
_START: Final = f"""
import os, sys
os.nice({decode_server.NICENESS})  # before the imports, which take longer than most images
from {decode_server.__name__} import main
main(int(sys.argv[1]))
"""
_ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class DecoderLost(Exception):
    """The process that decoded an image was ended from outside: nothing is known of the image."""


class OutOfTime(TimeoutError):
    """An image's decoding was ended at its deadline."""


class TooSlow(ImageTooLarge):
    """An image's decoding was ended by the limit of processor time."""


class OutOfMemory(ImageTooLarge):
    """An image's decoding was ended by the limit of memory."""


class DecodePool:
    """A decode server of this process, started when it is first needed and again where it has ended."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    async def decode(self, job: Job) -> Pixels | int:
        """Decode an image, (height, width, 3) uint8; or say how many bytes that takes, where the job allows fewer.

        Whoever stops waiting ends the process that decodes.

        Raises:
            ImageError: it is refused, or its decoding was ended by a limit.
            OutOfTime: its time was up.
            DecoderLost: its process was ended from outside.
        """
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                self._hand_over(theirs)
            ours.setblocking(False)
            loop = asyncio.get_running_loop()
            with contextlib.suppress(ConnectionError):  # it has ended: its status says why
                await loop.sock_sendall(ours, job.head())
                await loop.sock_sendall(ours, job.data)
            parts = []
            with contextlib.suppress(ConnectionError):
                while part := await loop.sock_recv(ours, _CHUNK):
                    parts.append(part)
        return _result(b"".join(parts), job)

    def close(self) -> None:
        """End the decode server, and whatever it decodes."""
        if self._control is None or self._server is None:
            return
        self._control.close()
        try:
            self._server.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        self._server = self._control = None

    def _hand_over(self, job: socket.socket) -> None:
        if self._control is not None:
            try:
                socket.send_fds(self._control, [b"j"], [job.fileno()])
            except ConnectionError:  # it has ended
                self.close()
            else:
                return
        socket.send_fds(self._start(), [b"j"], [job.fileno()])  # waits there until the server reads it

    def _start(self) -> socket.socket:
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.setblocking(False)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-c", _START, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # codecs write there what they think of an image
                env={**os.environ, **_ONE_THREAD},  # a process is forked whole only if it has one thread
                process_group=0,  # Ctrl-C is for the process that serves; see `explanation.explainer` on sessions
            )
        self._control = control
        return control


def _result(reply: bytes, job: Job) -> Pixels | int:
    size = decode_server.STATUS.size
    ended, code = decode_server.STATUS.unpack(reply[-size:]) if len(reply) >= size else (b"", 0)
    if ended != decode_server.ENDED or code == -signal.SIGKILL:
        raise DecoderLost("the process that decoded the image was killed: ask again in a moment")
    if code == -signal.SIGALRM:
        raise OutOfTime
    if code == -signal.SIGXCPU:
        raise TooSlow(
            f"decoding the image takes more than {job.processor_seconds:g} s of a processor's time "
            "(KERNELSCOPE_MAX_DECODE_SECONDS): send a smaller one"
        )
    if code:
        raise UndecodableImage(f"the image cannot be decoded: its codec ended with {code}")
    kind, body = reply[:1], reply[1:-size]
    if kind == decode_server.NEEDS:
        (needs,) = decode_server.SIZE.unpack(body)
        return int(needs)
    if kind == decode_server.EXCEEDS:
        raise OutOfMemory(
            f"decoding the image takes more than {job.memory / 1e6:,.0f} MB, and more than its header tells: "
            "send it in another format"
        )
    if kind == decode_server.REFUSED:
        said, message = json.loads(body)
        raise _ERRORS[said](message)
    return np.frombuffer(body, np.uint8).reshape(job.height, job.width, 3)
