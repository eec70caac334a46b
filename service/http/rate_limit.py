"""Limits on requests a second, shared by the processes of a service, without a lock.

For each key one number is kept: when the requests that it has sent would be used up at its rate. Two processes that ask
in the same microsecond may let through one request more.

Source: the generic cell rate algorithm, https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

SLOTS: Final = 4096
"""Numbers that the processes share; several times as many as there may be keys."""

Times = npt.NDArray[np.float64]


class RateLimit:
    """The limits of all keys.

    Args:
        times: float64 (SLOTS,), zero at first, shared by all processes.
        clock: which all of them have in common.
    """

    def __init__(self, times: Times, clock: Callable[[], float] = time.monotonic) -> None:
        self._times, self._clock = times, clock
        self._slots: dict[str, int] = {}

    def assign(self, names: Iterable[str]) -> None:
        """Give each key its place, the same in every process that knows the same keys."""
        taken: dict[int, str] = {}
        for name in sorted(set(names)):
            slot = zlib.crc32(name.encode()) % SLOTS
            while slot in taken:
                slot = (slot + 1) % SLOTS
            taken[slot] = name
        self._slots = {name: slot for slot, name in taken.items()}

    def take(self, name: str, rate: float, burst: float) -> float:
        """Count one request of a key, unless it is one too many.

        Returns:
            0 where it may be answered, else the seconds after which the next one may.
        """
        slot, now = self._slots[name], self._clock()
        used_up = max(now, float(self._times[slot])) + 1 / rate
        wait = used_up - now - burst / rate
        if wait > 1e-9:  # less is what adding fractions leaves
            return wait
        self._times[slot] = used_up
        return 0.0
