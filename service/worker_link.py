"""What the processes that serve on one socket share: memory, and a Unix socket each to ask one another.

A message is a dataclass, and so is its answer; an error that answering raises is raised where the question was asked,
with its type. The sockets have abstract names (Linux), so that nothing depends on a folder; only processes of the same
user are answered.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import pickle
import secrets
import signal
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from service.http.rate_limit import SLOTS
from service.inference import memory_budget

READY: Final = signal.SIGUSR1
"""What a process sends its supervisor once it serves."""

ANSWER_SECONDS: Final = 1.0
"""How long an answer that costs its process nothing is waited for."""

_FEW_OF: Final = 16
"""Of so many connections, one more does not count."""
_LARGEST: Final = 2**26
"""Bytes of a message at most: statistics and figures of every model take far less."""
_LENGTH: Final = struct.Struct("<I")
_SLOT: Final = 2**20
_CREDENTIALS: Final = struct.Struct("3i")

Answerer = Callable[[Any], Awaitable[Any]]


class _Slot:
    """Bytes of one process that others may read, also after its death."""

    def __init__(self, size: int) -> None:
        self._memory = mmap.mmap(-1, size)

    def write(self, data: bytes) -> None:
        """Keep `data`, if there is room for it."""
        if _LENGTH.size + len(data) <= len(self._memory):
            self._memory[: _LENGTH.size] = _LENGTH.pack(0)  # whoever reads half of it reads nothing
            self._memory[_LENGTH.size : _LENGTH.size + len(data)] = data
            self._memory[: _LENGTH.size] = _LENGTH.pack(len(data))

    def read(self) -> bytes:
        """What was written last; empty where nothing was."""
        (length,) = _LENGTH.unpack_from(self._memory)
        return self._memory[_LENGTH.size : _LENGTH.size + length]


class SharedMemory:
    """Memory that the supervisor makes before it forks, and all its processes share.

    It is no file: neither a full disk nor a temporary folder that is removed can take it away.

    Attributes:
        connections: uint32 (workers,), client connections of each.
        heartbeats: float64 (workers,), when each one's event loop last ran, by `time.monotonic`; 0 before it first did.
        runs: float64 (workers,), when each one last ran a model; see `idle_cores`.
        ready: uint8 (workers,), 1 for each that serves.
        loading: what each is loading now; see `WorkerLink.loading`.
        figures: the last metrics of each.
        key_times: float64 (SLOTS,), for limits on requests; see `rate_limit`.
        image_memory: int64 (workers, 4), bytes that each holds of each share; see `memory_budget`.
    """

    def __init__(self, workers: int) -> None:
        self.connections = np.frombuffer(mmap.mmap(-1, 4 * workers), np.uint32)
        self.heartbeats = np.frombuffer(mmap.mmap(-1, 8 * workers), np.float64)
        self.runs = np.frombuffer(mmap.mmap(-1, 8 * workers), np.float64)
        self.ready = np.frombuffer(mmap.mmap(-1, workers), np.uint8)
        self.key_times = np.frombuffer(mmap.mmap(-1, 8 * SLOTS), np.float64)
        shares = len(memory_budget.SHARES)
        self.image_memory = np.frombuffer(mmap.mmap(-1, 8 * workers * shares), np.int64).reshape(workers, shares)
        self.loading = [_Slot(mmap.PAGESIZE) for _ in range(workers)]
        self.figures = [_Slot(_SLOT) for _ in range(workers)]


@dataclass(frozen=True)
class Loading:
    """A version that a process is loading, and since when, by `time.monotonic`."""

    name: str
    version: int
    since: float


def loading_of(memory: SharedMemory, number: int) -> Loading | None:
    """What a process is loading, or was when it died; None where it is nothing."""
    data = memory.loading[number].read()
    loading: Loading | None = pickle.loads(data) if data else None  # noqa: S301 -- of a process of our own
    return loading


class WorkerLink:
    """One process' link to the others of its group.

    Args:
        number: this process', from 0.
        sockets: one for each process, listening; none where it serves alone.
        memory: shared by all; its own where None.
    """

    def __init__(
        self, number: int = 0, sockets: tuple[socket.socket, ...] = (), memory: SharedMemory | None = None
    ) -> None:
        self.number, self._sockets = number, sockets
        self.size = max(1, len(sockets))
        self.memory = memory or SharedMemory(1)
        self._server: asyncio.Server | None = None

    @property
    def is_leader(self) -> bool:
        """Whether this process decides what the group serves."""
        return self.number == 0

    def has_more_connections(self, own: int) -> bool:
        """Whether another process has clearly fewer client connections than this one, whose number is told to all.

        Of a few connections, one more counts; of hundreds it does not.

        Args:
            own: connections of this process.
        """
        self.count_connections(own)
        least = int(self.memory.connections.min())
        return own > least + least // _FEW_OF

    def count_connections(self, own: int) -> None:
        """Tell the others how many client connections this process has."""
        self.memory.connections[self.number] = own

    def beat(self) -> None:
        """Tell the supervisor that this process' event loop runs."""
        self.memory.heartbeats[self.number] = time.monotonic()

    def tell_ready(self) -> None:
        """Tell the supervisor that this process serves."""
        self.memory.ready[self.number] = 1
        os.kill(os.getppid(), READY)

    @contextmanager
    def loading(self, name: str, version: int) -> Iterator[None]:
        """Tell the supervisor what is being loaded: should that end this process, it is not loaded again."""
        slot = self.memory.loading[self.number]
        slot.write(pickle.dumps(Loading(name, version, time.monotonic())))
        try:
            yield
        finally:
            slot.write(b"")

    async def listen(self, answer: Answerer) -> None:
        """Answer the others' questions from now on."""
        if not self._sockets:
            return

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                with suppress(OSError, EOFError, asyncio.IncompleteReadError):  # who asked has left or has died
                    if _is_own_user(writer.get_extra_info("socket")):
                        question = await _receive(reader)
                        try:
                            reply: object = await answer(question)
                        except Exception as error:  # whatever it is, it is for the one who asked
                            reply = error
                        await _send(writer, reply)
            finally:
                await _close(writer)

        # a copy: the server closes its socket, while the group's stays open for the process that replaces this one
        self._server = await asyncio.start_unix_server(serve, sock=self._sockets[self.number].dup())

    def close(self) -> None:
        """Answer no more."""
        if self._server:
            self._server.close()

    async def ask_all(self, question: object, *, seconds: float = ANSWER_SECONDS) -> list[Any]:
        """The others' answers, in their order: None from one that has died, is starting, or takes too long.

        Raises what answering raised, of the first that raised.
        """
        others = [number for number in range(self.size) if number != self.number]
        return await asyncio.gather(*(self.ask(number, question, seconds=seconds) for number in others))

    async def ask_serving(self, question: object) -> list[Any]:
        """As `ask_all`, but those alone that serve: one that is starting answers nobody before its time is up."""
        serving = [number for number in range(self.size) if number != self.number and self.memory.ready[number]]
        return await asyncio.gather(*(self.ask(number, question) for number in serving))

    async def ask(self, number: int, question: object, *, seconds: float = ANSWER_SECONDS) -> Any:
        """One other's answer, as `ask_all` gives it."""
        try:
            async with asyncio.timeout(seconds):
                reply = await _ask(self._sockets[number].getsockname(), question)
        except (OSError, EOFError, TimeoutError, asyncio.IncompleteReadError):  # dead, starting, ending, or too slow
            return None
        if isinstance(reply, Exception):
            raise reply
        return reply


def sockets(workers: int) -> tuple[socket.socket, ...]:
    """A listening Unix socket for each process of a group; made before they are forked."""
    group = secrets.token_hex(8)
    made = []
    for number in range(workers):
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(f"\0kernelscope-{group}-{number}")
        listening.listen(64)
        listening.setblocking(False)
        made.append(listening)
    return tuple(made)


def _is_own_user(connection: socket.socket) -> bool:
    _, user, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(user) == os.getuid()


async def _ask(address: str | bytes, question: object) -> object:
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, address)
        reader, writer = await asyncio.open_unix_connection(sock=connection)
    except BaseException:
        connection.close()
        raise
    try:
        await _send(writer, question)
        return await _receive(reader)
    finally:
        await _close(writer)


async def _send(writer: asyncio.StreamWriter, message: object) -> None:
    data = pickle.dumps(message)
    writer.write(_LENGTH.pack(len(data)) + data)
    await writer.drain()


async def _receive(reader: asyncio.StreamReader) -> object:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > _LARGEST:
        raise EOFError(f"a message of {length:,} bytes")
    message: object = pickle.loads(await reader.readexactly(length))  # noqa: S301 -- of a process of our own
    return message


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):  # the other end is gone
        await writer.wait_closed()
