"""Many callers, few batches: what waits is run together as soon as the model is free, and never waits when it is.

Everything but the model's run happens on the event loop, so there is no lock; the run has a thread of its own. A caller
that is cancelled, because its deadline has passed or its client has left, leaves the queue before it costs a run.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from contract.preprocessing import Pixels
from service.inference.admission import Admission

Probabilities = npt.NDArray[np.float32]


_MEMORY: Final = 0.2
"""The weight of the latest batch in the moving average of seconds per image."""


class Overloaded(Exception):
    """Admission control rejected a request: too many images wait for the model."""


class Runner(Protocol):
    """What runs a batch: uint8 (N, H, W, 3) in, float32 (N, classes) out, called on the batcher's thread."""

    def __call__(self, images: Pixels) -> Probabilities:
        """Run a batch."""


class Watcher(Protocol):
    """What is told of a batcher's doings."""

    def waiting(self, images: int) -> None:
        """So many `images` wait now; told on the event loop."""

    def ran(self, images: int, waited: float, took: float) -> None:
        """A batch of `images`, whose oldest `waited` seconds, `took` seconds; told on the batcher's thread."""


class Submission:
    """Images of one caller, which may be run in several batches. To wait for it is to wait for its answer.

    Attributes:
        answer: probabilities, float32 (N, classes); cancelling it takes the images from the queue.
        since, started, ended: when it came, when its first batch was taken from the queue, and when its last was
            through; by `time.perf_counter`.
    """

    __slots__ = ("answer", "ended", "images", "rows", "since", "started", "taken")

    def __init__(self, images: Pixels, answer: asyncio.Future[Probabilities]) -> None:
        self.images, self.answer = images, answer
        self.since = self.started = self.ended = time.perf_counter()
        self.taken = 0
        self.rows: list[Probabilities] = []

    def __await__(self) -> Generator[Any, None, Probabilities]:
        return self.answer.__await__()

    def add(self, rows: Probabilities) -> None:
        """Rows come in order, for there is one thread."""
        self.rows.append(rows)
        if sum(map(len, self.rows)) == len(self.images):
            self.ended = time.perf_counter()
            self.answer.set_result(self.rows[0] if len(self.rows) == 1 else np.concatenate(self.rows))


@dataclass(frozen=True, slots=True)
class _Span:
    """Some of a request's images: its share of a batch."""

    submission: Submission
    images: Pixels


class Batcher:
    """Joins images of many requests into batches.

    Args:
        run: runs a batch.
        watch: told of each batch.
        max_batch_size: images in a batch at most; a request of more is split and joined.
        max_queue: images that may wait.
        max_queue_delay: seconds that a free model waits for a batch to fill. On a CPU a larger batch is hardly cheaper
            an image, so waiting costs latency and brings nothing; it is for accelerators.
        terminate: ends the run under way with an error; called when nobody waits for any of its answers any more.
    """

    def __init__(
        self,
        run: Runner,
        watch: Watcher,
        *,
        max_batch_size: int,
        max_queue: int,
        max_queue_delay: float = 0.0,
        terminate: Callable[[], None] = lambda: None,
    ) -> None:
        self._run, self._watch, self._terminate = run, watch, terminate
        self._max_batch_size, self._max_queue_delay = max_batch_size, max_queue_delay
        self._admission = Admission(max_queue)
        self._queue: deque[Submission] = deque()
        self._running = 0
        self._batch: list[_Span] = []  # what runs now
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._began = 0.0
        self._seconds_per_image = 0.0  # of late, from the start of a batch to its delivery
        self.depth = 0
        """Images waiting now."""

    def submit(self, images: Pixels, time_left: float = math.inf) -> Submission:
        """Queue images, uint8 (N, H, W, 3), one or more; wait for what is returned.

        Args:
            images: what to run.
            time_left: seconds until the answer is of no use.

        Raises:
            Overloaded: admission control rejects them (see `Admission`); nothing was queued.
        """
        if not self.admits(len(images), time_left=time_left):
            raise Overloaded
        loop = asyncio.get_running_loop()
        submission = Submission(images, loop.create_future())
        self._queue.append(submission)
        self._wait(len(images))
        self._idle.clear()
        self._take(loop)
        submission.answer.add_done_callback(lambda answer: self._cancel(submission) if answer.cancelled() else None)
        return submission

    def admits(self, images: int, *, arriving: int = 0, time_left: float) -> bool:
        """Whether `images` would be admitted now, behind `arriving` ones that are about to be queued."""
        return self._admission.admits(
            images, waiting=self.depth + arriving, seconds_per_image=self._seconds_per_image, time_left=time_left
        )

    def _cancel(self, submission: Submission) -> None:
        """A caller waits no more: its images leave the queue, and a run that nobody waits for ends."""
        self._give_up(submission)
        if self._batch and all(span.submission.answer.done() for span in self._batch):
            self._terminate()

    def _give_up(self, submission: Submission) -> None:
        """Take a request's images from the queue, as far as they are still in it."""
        self._wait(submission.taken - len(submission.images))
        submission.taken = len(submission.images)

    async def drain(self) -> None:
        """Wait until nothing waits and nothing runs."""
        await self._idle.wait()

    def close(self) -> None:
        """End the thread, after the run that is under way."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _take(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start a batch of what waits, if the model is free."""
        if self._running or (self._max_queue_delay and self._rather_wait(loop)):
            return
        batch: list[_Span] = []
        room = self._max_batch_size
        while self._queue and room:
            submission = self._queue[0]
            if submission.answer.done():  # cancelled, or another of its batches failed
                self._give_up(submission)
            submission.started = submission.started if submission.taken else time.perf_counter()
            images = submission.images[submission.taken : submission.taken + room]
            submission.taken += len(images)
            if submission.taken == len(submission.images):
                self._queue.popleft()
            if len(images):
                batch.append(_Span(submission, images))
                room -= len(images)
        if batch:
            self._running = self._max_batch_size - room
            self._batch, self._began = batch, time.perf_counter()
            self._wait(-self._running)
            task = loop.run_in_executor(self._thread, self._infer, batch)
            task.add_done_callback(lambda done: self._deliver(loop, batch, done.result()))
        elif not self._queue:
            self._idle.set()

    def _wait(self, more: int) -> None:
        """So many images more wait; fewer where it is negative."""
        self.depth += more
        self._watch.waiting(self.depth)

    def _rather_wait(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether a fuller batch may still come; if so, a timer takes what has come by then."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if not self._queue or self.depth >= self._max_batch_size:
            return False
        left = self._queue[0].since + self._max_queue_delay - time.perf_counter()
        if left <= 0:
            return False
        self._timer = loop.call_later(left, self._take, loop)
        return True

    def _infer(self, batch: list[_Span]) -> list[Probabilities | Exception]:
        start = time.perf_counter()
        images = batch[0].images if len(batch) == 1 else np.concatenate([span.images for span in batch])
        results: list[Probabilities | Exception]
        try:
            rows = self._run(images)
            ends = np.cumsum([len(span.images) for span in batch])
            results = list(np.split(rows, ends[:-1]))
        except Exception as error:  # whatever a model's run raises is its callers' to know
            # one that fails must not fail those it was joined with: each that is still waited for has its own run
            results = [error] if len(batch) == 1 else [self._infer_alone(span, error) for span in batch]
        self._watch.ran(len(images), start - batch[0].submission.since, time.perf_counter() - start)
        return results

    def _infer_alone(self, span: _Span, error: Exception) -> Probabilities | Exception:
        return error if span.submission.answer.done() else self._infer([span])[0]

    def _deliver(
        self, loop: asyncio.AbstractEventLoop, batch: list[_Span], results: list[Probabilities | Exception]
    ) -> None:
        latest = (time.perf_counter() - self._began) / self._running
        self._seconds_per_image += (latest - self._seconds_per_image) * (_MEMORY if self._seconds_per_image else 1)
        self._running, self._batch = 0, []
        self._take(loop)  # before the answers are handed out: the model goes on while replies are written
        for span, result in zip(batch, results, strict=True):
            answer = span.submission.answer
            if answer.done():
                continue  # cancelled, or another of its batches failed
            if isinstance(result, Exception):
                self._give_up(span.submission)
                answer.set_exception(result)
            else:
                span.submission.add(result)
