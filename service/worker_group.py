"""What the processes that serve on one socket say to each other.

Each listens on a Unix socket of its own in the crew's folder, by its number, and answers questions: a line of JSON in,
a line of JSON out. Whoever a client has reached asks the others, and they answer for themselves; but what is loaded is
changed by the first alone, which tells the others, so that two changes at once come in the same order to all.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

Message = dict[str, Any]
Answerer = Callable[[Message], Awaitable[Message]]

READY: Final = signal.SIGUSR1
"""What a process sends its supervisor once it serves."""
_LONGEST: Final = 2**20
"""Bytes of a message at most."""
_PATIENCE: Final = 1.0
"""Seconds that another has for an answer that costs it nothing."""


def place(folder: Path, number: int) -> Path:
    """Where a process of a crew listens; there from when it is ready."""
    return folder / f"{number}.sock"


class Crew:
    """One process' link to the others.

    Args:
        folder: the crew's; None for a process that serves alone.
        number: this one's, from 0.
        size: how many there are.
    """

    def __init__(self, folder: Path | None = None, number: int = 0, size: int = 1) -> None:
        self.folder, self.number, self.size = folder, number, size
        self._server: asyncio.Server | None = None  # it closes once nobody holds it
        self._connections = np.zeros(size, np.uint32)
        if folder is not None:
            path = folder / "connections"
            path.touch()
            os.truncate(path, self._connections.nbytes)
            self._connections = np.memmap(path, np.uint32, "r+", shape=size)

    def has_most(self, connections: int) -> bool:
        """Whether another has clearly fewer client connections than this one, whose number this tells the others.

        Of a few, one more is much; of hundreds it is not worth anybody's waiting.
        """
        self._connections[self.number] = connections
        least = int(self._connections.min())
        return connections > least + least // 4

    async def listen(self, answer: Answerer) -> None:
        """Answer the others' questions from now on."""
        if self.folder is None:
            return

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                with suppress(OSError, ValueError):  # who asked has left, or has died half way through its question
                    question: Message = json.loads(await reader.readline())
                    writer.write(json.dumps(await answer(question)).encode() + b"\n")
                    await writer.drain()
            finally:
                await _close(writer)

        self._server = await asyncio.start_unix_server(serve, place(self.folder, self.number), limit=_LONGEST)

    def close(self) -> None:
        """Answer no more."""
        if self._server:
            self._server.close()

    async def ask(self, question: Message, *, patience: float = _PATIENCE) -> list[Message | None]:
        """The others' answers, in their order: None from one that has died, is starting, or takes too long.

        Args:
            question: what each is asked.
            patience: seconds until an answer is waited for no longer.
        """
        others = [number for number in range(self.size) if number != self.number]
        return await asyncio.gather(*(self.ask_one(number, question, patience=patience) for number in others))

    async def ask_one(self, number: int, question: Message, *, patience: float = _PATIENCE) -> Message | None:
        """One other's answer, as `ask` gives it."""
        if self.folder is None:
            return None
        try:
            async with asyncio.timeout(patience):
                return await _ask(place(self.folder, number), question)
        except (OSError, ValueError, TimeoutError):  # no socket, a closed one, half a line
            return None


async def _ask(path: Path, question: Message) -> Message:
    reader, writer = await asyncio.open_unix_connection(path, limit=_LONGEST)
    try:
        writer.write(json.dumps(question).encode() + b"\n")
        answer: Message = json.loads(await reader.readline())
    finally:
        await _close(writer)
    return answer


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):  # the other end is gone
        await writer.wait_closed()
