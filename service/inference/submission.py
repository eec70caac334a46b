"""Images of one caller on their way through a batcher."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import numpy.typing as npt

from contract.preprocessing import Pixels

Probabilities = npt.NDArray[np.float32]
Deliver = Callable[[Probabilities | Exception], None]
"""Takes the answer to a caller's images, or why there is none; called on the event loop, and at most once."""


class OutOfTime(Exception):
    """A caller's time was up before its images were run."""


class Submission:
    """Images of one caller, which may be run in several batches.

    Attributes:
        since, started, ended: when it came, when its first batch was taken from the queue, and when its last was
            through; by `time.perf_counter`.
        deadline: until when an answer is of use, by the same clock.
        is_done: whether it has been delivered or cancelled.
    """

    __slots__ = ("_deliver", "deadline", "ended", "images", "is_done", "rows", "since", "started", "taken", "timer")

    def __init__(self, images: Pixels, deadline: float, deliver: Deliver) -> None:
        self.images, self.deadline, self._deliver = images, deadline, deliver
        self.since = self.started = self.ended = time.perf_counter()
        self.taken, self.is_done = 0, False
        self.rows: list[Probabilities] = []
        self.timer: asyncio.TimerHandle | None = None

    def add(self, rows: Probabilities) -> None:
        """Rows come in order, for there is one run at a time."""
        if len(rows) == len(self.images):
            self.finish(rows)
            return
        self.rows.append(rows)
        if sum(map(len, self.rows)) == len(self.images):
            self.finish(np.concatenate(self.rows))

    def finish(self, answer: Probabilities | Exception) -> None:
        """Deliver, once."""
        if not self.is_done:
            self.end()
            self._deliver(answer)

    def end(self) -> None:
        """Deliver nothing from now on."""
        self.is_done, self.ended = True, time.perf_counter()
        if self.timer:
            self.timer.cancel()


class Awaited:
    """A submission whose answer is a future. To wait for it is to wait for its answer.

    Attributes:
        answer: probabilities, float32 (N, classes); cancelling it takes the images from the queue.
        submission: the images.
    """

    __slots__ = ("answer", "submission")

    def __init__(self, answer: asyncio.Future[Probabilities], submission: Submission) -> None:
        self.answer, self.submission = answer, submission

    def __await__(self) -> Generator[Any, None, Probabilities]:
        return self.answer.__await__()
