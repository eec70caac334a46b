"""A budget of memory for bodies and decoding, shared by the processes on one socket.

It has a share for each kind of use, so that none can take all of it and none can starve: small decodes never wait for
large ones, nor large ones for small ones, and a body that has been received never waits for memory that other bodies
hold. Within a share, whoever came first goes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from service.observability.metrics import Metrics

_LOOK_SECONDS: Final = 0.02
"""Between two looks at whether another process has freed memory."""
_STEP_SECONDS: Final = 0.003
"""By how much these looks differ between two processes, so that they do not get into each other's way."""

ShareName = Literal["small_decodes", "large_decodes", "medium_bodies", "large_bodies"]
SHARES: Final[tuple[ShareName, ...]] = get_args(ShareName)

_PARTS: Final = (48, 228, 12, 16)
"""How the budget is divided among the shares."""
_LARGE_BODY: Final = 4 * 2**20

Held = npt.NDArray[np.int64]
"""Bytes that are held, int64 (workers, 4): of each process and share. In memory that the processes share."""


class Share:
    """A part of the budget.

    Args:
        size: bytes that all processes together may hold.
        held: what each process holds, int64 (workers,), in shared memory.
        number: this process' place in it.
        report: told how many bytes this process holds, whenever that changes.
    """

    def __init__(self, size: int, held: npt.NDArray[np.int64], number: int, report: Callable[[int], None]) -> None:
        self.size, self._held, self._number, self._report = size, held, number, report
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()
        self._held[number] = 0  # what the process held whose place this one has taken

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Wait until there are so many bytes, and hold them; at most all of the share."""
        size = min(size, self.size)
        async with self._turn:
            while not self._take(size):
                self._freed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS + _STEP_SECONDS * self._number):
                        await self._freed.wait()
        try:
            yield
        finally:
            self._add(-size)
            self._freed.set()

    def _take(self, size: int) -> bool:
        # first taken, then counted: two processes that do so at once may both fail, and never both succeed
        self._held[self._number] += size
        if self._held.sum() <= self.size:
            self._report(int(self._held[self._number]))
            return True
        self._held[self._number] -= size
        return False

    def _add(self, size: int) -> None:
        self._held[self._number] += size
        self._report(int(self._held[self._number]))


Shares = dict[ShareName, Share]


def shares(size: int, held: Held, number: int, metrics: Metrics) -> Shares:
    """The shares of a budget, as one process sees them.

    Args:
        size: bytes of the budget.
        held: what each process holds, in shared memory.
        number: this process' place in it.
        metrics: told of what this process holds.
    """
    return {
        name: Share(size * part // sum(_PARTS), held[:, column], number, metrics.image_memory.labels(name).set)
        for column, (name, part) in enumerate(zip(SHARES, _PARTS, strict=True))
    }


def body_share(length: int) -> ShareName:
    """The share that a body belongs to."""
    return "large_bodies" if length > _LARGE_BODY else "medium_bodies"
