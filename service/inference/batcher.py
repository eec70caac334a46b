"""Many callers, few batches: what waits is run together as soon as the model is free, and never waits when it is.

A model whose run is short runs on the event loop, once a turn, on all that was read in that turn: handing a run over to
a thread and back takes a quarter of the shipped model's own time. Any other runs on a thread of its own. All else
happens on the event loop, so there is no lock. A caller that is cancelled, because its deadline has passed or its
client has left, leaves the queue before it costs a run.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from contract.preprocessing import Pixels
from service.inference.admission import Admission
from service.inference.submission import Awaited, Deliver, OutOfTime, Probabilities, Submission
from service.inference.watchdog import LONGEST_SECONDS, WATCHDOG, RunEnded

log = logging.getLogger("kernelscope")

_MEMORY: Final = 0.2
"""The weight of the latest batch in the moving average of seconds per image."""


class Overloaded(Exception):
    """Admission control rejected a request: too many images wait for the model."""


class Runner(Protocol):
    """What runs a batch: uint8 (N, H, W, 3) in, float32 (N, classes) out."""

    def __call__(self, images: Pixels) -> Probabilities:
        """Run a batch."""


class Watcher(Protocol):
    """What is told of a batcher's doings."""

    def waiting(self, images: int) -> None:
        """So many `images` wait now; told on the event loop, at least once a batch."""

    def ran(self, images: int, waited: float, took: float) -> None:
        """A batch of `images`, whose oldest `waited` seconds, `took` seconds; told where the batch was run."""


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
        on_loop: images that are run at once on the event loop; 0 where all runs have their thread.
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
        on_loop: int = 0,
    ) -> None:
        self._run, self._watch, self._terminate = run, watch, terminate
        self._max_batch_size, self._max_queue_delay = max_batch_size, max_queue_delay
        self._on_loop = 0 if max_queue_delay else min(on_loop, max_batch_size)
        self._admission = Admission(max_queue)
        self._queue: deque[Submission] = deque()
        self._running = 0
        self._is_due = False  # a batch will be run on the event loop, in its next turn
        self._batch: list[_Span] = []  # what runs now
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._began = 0.0
        self._seconds_per_image = 0.0  # of late, from the start of a batch to its delivery
        self.depth = 0
        """Images waiting now."""

    @property
    def runs_on_loop(self) -> bool:
        """Whether what is submitted is run on the event loop, in the turn in which it came or soon after."""
        return bool(self._on_loop)

    def submit(self, images: Pixels, time_left: float = math.inf) -> Awaited:
        """Queue images, uint8 (N, H, W, 3), one or more; wait for what is returned.

        Args:
            images: what to run.
            time_left: seconds until the answer is of no use. The caller sees to it that it does not wait longer.

        Raises:
            Overloaded: admission control rejects them (see `Admission`); nothing was queued.
        """
        answer: asyncio.Future[Probabilities] = asyncio.get_running_loop().create_future()

        def deliver(result: Probabilities | Exception) -> None:
            if answer.done():
                return
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        submission = self._queued(images, math.inf, time_left, deliver)
        answer.add_done_callback(lambda done: self.cancel(submission) if done.cancelled() else None)
        return Awaited(answer, submission)

    def submit_to(self, images: Pixels, deadline: float, deliver: Deliver) -> Submission:
        """Queue images, and have the answer delivered: no future, no task.

        Args:
            images: uint8 (N, H, W, 3), one or more.
            deadline: until when an answer is of use, by `time.perf_counter`; after it, `OutOfTime` is delivered.
            deliver: takes the answer, or why there is none.

        Raises:
            Overloaded: as `submit`.
        """
        submission = self._queued(images, deadline, deadline - time.perf_counter(), deliver)
        if not self.runs_on_loop:
            self._limit(submission)
        return submission

    def _queued(self, images: Pixels, deadline: float, time_left: float, deliver: Deliver) -> Submission:
        if not self.admits(len(images), time_left=time_left):
            raise Overloaded
        submission = Submission(images, deadline, deliver)
        self._queue.append(submission)
        self._wait(len(images))
        self._idle.clear()
        self._take(asyncio.get_running_loop())
        return submission

    def admits(self, images: int, *, arriving: int = 0, time_left: float) -> bool:
        """Whether `images` would be admitted now, behind `arriving` ones that are about to be queued."""
        return self._admission.admits(
            images, waiting=self.depth + arriving, seconds_per_image=self._seconds_per_image, time_left=time_left
        )

    def cancel(self, submission: Submission) -> None:
        """A caller waits no more: its images leave the queue, and a run that nobody waits for ends."""
        submission.end()
        self._give_up(submission)
        if self._batch and all(span.submission.is_done for span in self._batch):
            self._terminate()

    def _limit(self, submission: Submission) -> None:
        """Deliver `OutOfTime` at the deadline, should there be no answer by then."""
        if submission.deadline < math.inf and not submission.timer:
            left = submission.deadline - time.perf_counter()
            submission.timer = asyncio.get_running_loop().call_later(max(0.0, left), self._on_deadline, submission)

    def _on_deadline(self, submission: Submission) -> None:
        submission.finish(OutOfTime())
        self.cancel(submission)

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
        if self._running or self._is_due or (self._max_queue_delay and self._rather_wait(loop)):
            return
        if self._on_loop and self._queue:
            self._is_due, self._began = True, time.perf_counter()
            loop.call_soon(self._run_on_loop, loop)
            return
        batch = self._next_batch(self._max_batch_size)
        if batch:
            self._begin(batch)
            self._began = time.perf_counter()
            self._run_on_thread(loop, batch)
        elif not self._queue:
            self._idle.set()

    def _run_on_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run a batch of what has come until now; what comes meanwhile is read before the next one."""
        self._is_due = False
        batch = self._next_batch(self._on_loop)
        self._begin(batch)
        self._watch.waiting(self.depth)
        if not batch:
            self._take(loop)
            return
        try:
            results = self._infer(batch)
        except RunEnded:
            log.warning("a run took more than %g s on the event loop: it goes on elsewhere", LONGEST_SECONDS)
            most, self._on_loop = self._on_loop, 0
            for submission in {span.submission: None for span in batch} | dict.fromkeys(self._queue):
                self._limit(submission)
            self._run_on_thread(loop, batch, most)
        else:
            self._deliver(loop, batch, results)

    def _run_on_thread(self, loop: asyncio.AbstractEventLoop, batch: list[_Span], on_loop: int = 0) -> None:
        """Run a batch there; the next ones again on the event loop, where this one is short after all."""
        task = loop.run_in_executor(self._thread, self._infer, batch)
        start = time.perf_counter()

        def deliver(done: asyncio.Future[list[Probabilities | Exception]]) -> None:
            results = done.result()
            has_failed = any(isinstance(result, Exception) for result in results)
            if on_loop and not has_failed and time.perf_counter() - start < LONGEST_SECONDS:
                self._on_loop = on_loop
            self._deliver(loop, batch, results)

        task.add_done_callback(deliver)

    def _next_batch(self, room: int) -> list[_Span]:
        """Take images from the queue, `room` at most."""
        batch: list[_Span] = []
        now = time.perf_counter()
        while self._queue and room:
            submission = self._queue[0]
            if now > submission.deadline:
                submission.finish(OutOfTime())
            if submission.is_done:  # cancelled, or another of its batches failed
                self._give_up(submission)
            elif not submission.taken:
                submission.started = now
            images = submission.images
            if submission.taken or len(images) > room:
                images = images[submission.taken : submission.taken + room]
            submission.taken += len(images)
            if submission.taken == len(submission.images):
                self._queue.popleft()
            if len(images):
                batch.append(_Span(submission, images))
                room -= len(images)
        return batch

    def _begin(self, batch: list[_Span]) -> None:
        self._running = sum(len(span.images) for span in batch)
        self._batch = batch
        self._wait(-self._running)

    def _wait(self, more: int) -> None:
        """So many images more wait; fewer where it is negative."""
        self.depth += more
        if not self._on_loop:
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
        """The rows of each span, or why there are none. Raises `RunEnded` where the watchdog has ended the run."""
        start = time.perf_counter()
        images = batch[0].images if len(batch) == 1 else np.concatenate([span.images for span in batch])
        results: list[Probabilities | Exception]
        try:
            rows = self._watched(images)
        except RunEnded:
            raise
        except Exception as error:  # whatever a model's run raises is its callers' to know
            # one that fails must not fail those it was joined with: each that is still waited for has its own run
            results = [error] if len(batch) == 1 else [self._infer_alone(span, error) for span in batch]
        else:
            results, end = [], 0
            for span in batch:
                end += len(span.images)
                results.append(rows[end - len(span.images) : end])
        self._watch.ran(len(images), start - batch[0].submission.since, time.perf_counter() - start)
        return results

    def _watched(self, images: Pixels) -> Probabilities:
        if not self._on_loop:
            return self._run(images)
        with WATCHDOG.watching(self._terminate):
            return self._run(images)

    def _infer_alone(self, span: _Span, error: Exception) -> Probabilities | Exception:
        return error if span.submission.is_done else self._infer([span])[0]

    def _deliver(
        self, loop: asyncio.AbstractEventLoop, batch: list[_Span], results: list[Probabilities | Exception]
    ) -> None:
        latest = (time.perf_counter() - self._began) / self._running
        self._seconds_per_image += (latest - self._seconds_per_image) * (_MEMORY if self._seconds_per_image else 1)
        self._running, self._batch = 0, []
        self._take(loop)  # before the answers are handed out: the model goes on while replies are written
        for span, result in zip(batch, results, strict=True):
            submission = span.submission
            if submission.is_done:
                continue  # cancelled, or another of its batches failed
            if isinstance(result, Exception):
                self._give_up(submission)
                submission.finish(result)
            else:
                submission.add(result)
