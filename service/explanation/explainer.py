"""The server's side of explanations: a queue, a deadline, and the process that computes them."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from contract.errors import KernelscopeError
from service.explanation.tasks import Answer, Task
from service.explanation.worker import LENGTH, packed

QUEUE: Final = 8
"""Explanations that wait for their turn before others are refused."""
IDLE_SECONDS: Final = 300.0
"""After so long without a task the process ends, and gives its memory back."""
_GRACE: Final = 2.0
"""Seconds that a task which nobody waits for any more has left: less than a new process would take to be as far."""


class Busy(Exception):  # as Overloaded
    """There is no room for another explanation."""


class ExplanationFailed(Exception):
    """The process that explains has ended in the middle of a task."""


@dataclass
class _Process:
    process: subprocess.Popen[bytes]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, task: Task) -> Answer | KernelscopeError:
        self.writer.write(packed(task))
        await self.writer.drain()
        (length,) = LENGTH.unpack(await self.reader.readexactly(LENGTH.size))
        answer: Answer | KernelscopeError = pickle.loads(await self.reader.readexactly(length))  # noqa: S301  # our own
        return answer

    def kill(self) -> None:
        self.writer.close()
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Explainer:
    """Explains, one task at a time, in a process that is started when the first task comes.

    Args:
        megabytes: of memory that the process may take.
        idle: seconds without a task after which it ends.
    """

    def __init__(self, megabytes: int, idle: float = IDLE_SECONDS) -> None:
        self._megabytes, self._idle = megabytes, idle
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._process: _Process | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._abandoned: set[asyncio.Task[None]] = set()

    async def answer(self, task: Task) -> Answer:
        """Do a task.

        Raises:
            Busy: too many wait.
            ExplanationError: it asks for what there is not, or for what cannot be done.
            ExplanationFailed: the process ended, as where it found too little memory.
        """
        if self._waiting >= QUEUE:
            raise Busy(f"{QUEUE} explanations wait: try again in a moment")
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        job = asyncio.ensure_future(self._ask(task))
        try:
            reply = await asyncio.shield(job)
        except asyncio.CancelledError:
            rest = asyncio.ensure_future(self._abandon(job))
            self._abandoned.add(rest)
            rest.add_done_callback(self._abandoned.discard)
            raise
        except BaseException:
            self._turn.release()
            raise
        self._turn.release()
        if isinstance(reply, KernelscopeError):
            raise reply
        return reply

    async def _abandon(self, job: asyncio.Future[Answer | KernelscopeError]) -> None:
        """Let a task end that nobody waits for, or end the process with it; only then is it another's turn."""
        done, _ = await asyncio.wait([job], timeout=_GRACE)
        if not done:
            self.close()
        with suppress(ExplanationFailed, asyncio.CancelledError):
            await job
        self._turn.release()

    async def _ask(self, task: Task) -> Answer | KernelscopeError:
        if self._ending:
            self._ending.cancel()
        if self._process is None:
            self._process = await _start(self._megabytes)
        try:
            reply = await self._process.ask(task)
        except (EOFError, OSError):  # IncompleteReadError is an EOFError
            self.close()
            raise ExplanationFailed(
                f"the process that explains has ended: the model may need more than the {self._megabytes} megabytes "
                "that KERNELSCOPE_EXPLAIN_MEMORY allows it"
            ) from None
        self._ending = asyncio.get_running_loop().call_later(self._idle, self.close)
        return reply

    def close(self) -> None:
        """End the process."""
        if self._ending:
            self._ending.cancel()
        if self._process:
            self._process.kill()
        self._process = None


async def _start(megabytes: int) -> _Process:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        process = await asyncio.to_thread(
            subprocess.Popen,
            [sys.executable, "-m", "service.explanation.worker", str(theirs.fileno()), str(megabytes)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            # a terminal's Ctrl-C is for the server alone. In a session of its own, Linux would give this process as
            # much time as the server gets, whatever its priority
            process_group=0,
        )
    reader, writer = await asyncio.open_connection(sock=ours)
    return _Process(process, reader, writer)
