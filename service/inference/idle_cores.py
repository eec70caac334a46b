"""Whether the other processes of the service run a model now; where none does, a lone request may use their cores."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

_IDLE_SECONDS: Final = 0.002
"""After its last run, a process that answers one request after the other soon begins the next."""

Times = npt.NDArray[np.float64]


class IdleCores:
    """What each process of a service says of its runs.

    A process runs one model at a time, as a rule: where two run at once, the cores may be taken for idle between the
    end of the first run and that of the second.

    Args:
        times: float64 (processes,), zero at first, shared by all: when each process ended its last run, by the clock;
            infinity during one.
        number: this process'.
        clock: which all of them have in common, in seconds.

    Example:
        >>> times = np.zeros(2)
        >>> first, second = IdleCores(times, 0), IdleCores(times, 1)
        >>> first.are_idle()
        True
        >>> second.begin()
        >>> first.are_idle(), second.are_idle()
        (False, True)
    """

    def __init__(self, times: Times, number: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._times, self._number, self._clock = times, number, clock
        self._others = [other for other in range(len(times)) if other != number]
        times[number] = 0.0  # a process that died during a run is replaced

    def begin(self) -> None:
        """This process runs a model."""
        self._times[self._number] = math.inf

    def end(self) -> None:
        """The run has ended."""
        self._times[self._number] = self._clock()

    def are_idle(self) -> bool:
        """Whether no other process runs a model, or has done so a moment ago."""
        before = self._clock() - _IDLE_SECONDS
        return all(self._times[other] <= before for other in self._others)
