"""Many callers, few batches: what waits is run together as soon as the model is free, and never waits when it is.

Everything but the model's run happens on the event loop, so there is no lock; the run has a thread of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from contract.images import Pixels

Probabilities = npt.NDArray[np.float32]


class Overloaded(Exception):
    """So many pictures wait for the model that no more are taken."""


class Runner(Protocol):
    """What runs a batch: uint8 (N, H, W, 3) in, float32 (N, classes) out, called on the batcher's thread."""

    def __call__(self, pictures: Pixels) -> Probabilities:
        """Run a batch."""


class Watcher(Protocol):
    """What is told of each batch."""

    def __call__(self, pictures: int, waited: float, took: float) -> None:
        """`pictures` in the batch, seconds that its oldest one `waited`, seconds that the run `took`."""


@dataclass(slots=True)
class _Waiting:
    pictures: Pixels
    answer: asyncio.Future[Probabilities]
    since: float


class Batcher:
    """Joins pictures of many requests into batches.

    Args:
        run: runs a batch.
        watch: told of each batch.
        max_batch_size: pictures in a batch at most; a request of more is split and joined.
        max_queue: pictures that may wait.
    """

    def __init__(self, run: Runner, watch: Watcher, *, max_batch_size: int, max_queue: int) -> None:
        self._run, self._watch = run, watch
        self._max_batch_size, self._max_queue = max_batch_size, max_queue
        self._queue: deque[_Waiting] = deque()
        self._busy = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self.depth = 0
        """Pictures waiting now."""

    async def submit(self, pictures: Pixels) -> Probabilities:
        """Probabilities, float32 (N, classes), of pictures, uint8 (N, H, W, 3).

        A caller that is cancelled leaves the queue, and its pictures are not run.

        Raises:
            Overloaded: more pictures wait than `max_queue`; nothing was queued.
        """
        if self.depth + len(pictures) > max(self._max_queue, len(pictures)):
            raise Overloaded
        loop = asyncio.get_running_loop()
        size = self._max_batch_size
        parts = [
            _Waiting(pictures[i : i + size], loop.create_future(), time.perf_counter())
            for i in range(0, len(pictures), size)
        ]
        for part in parts:
            self._queue.append(part)
            self.depth += len(part.pictures)
        self._take(loop)
        try:
            if len(parts) == 1:
                return await parts[0].answer
            return np.concatenate(await asyncio.gather(*(part.answer for part in parts)))
        except BaseException:
            for part in parts:
                part.answer.cancel()
            raise

    def close(self) -> None:
        """End the thread, after the run that is under way."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _take(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start a batch of what waits, if the model is free."""
        if self._busy:
            return
        batch: list[_Waiting] = []
        count = 0
        while self._queue and count + len(self._queue[0].pictures) <= self._max_batch_size:
            part = self._queue.popleft()
            self.depth -= len(part.pictures)
            if not part.answer.done():  # cancelled: its caller is gone
                batch.append(part)
                count += len(part.pictures)
        if batch:
            self._busy = True
            task = loop.run_in_executor(self._thread, self._infer, batch)
            task.add_done_callback(lambda done: self._deliver(loop, batch, done))

    def _infer(self, batch: list[_Waiting]) -> Probabilities:
        start = time.perf_counter()
        pictures = batch[0].pictures if len(batch) == 1 else np.concatenate([part.pictures for part in batch])
        answer = self._run(pictures)
        self._watch(len(pictures), start - batch[0].since, time.perf_counter() - start)
        return answer

    def _deliver(
        self, loop: asyncio.AbstractEventLoop, batch: list[_Waiting], done: asyncio.Future[Probabilities]
    ) -> None:
        self._busy = False
        self._take(loop)  # before the answers are handed out: the model goes on while replies are written
        error = done.exception()
        start = 0
        for part in batch:
            end = start + len(part.pictures)
            if not part.answer.done():
                if error:
                    part.answer.set_exception(error)
                else:
                    part.answer.set_result(done.result()[start:end])
            start = end
