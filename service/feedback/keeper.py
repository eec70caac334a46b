"""What is kept of what was answered: chosen on the event loop, written by a thread of the group's first process.

Nothing waits for the folder: what finds the queue full is dropped and counted, and so is what cannot be written.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from contract.preprocessing import Pixels
from service.feedback.bucket import FeedbackBucket
from service.feedback.folder import FeedbackFolder
from service.feedback.recent import Answered, RecentAnswers, own
from service.feedback.sample import Sample, StoreFull, likeliest
from service.inference.loaded_model import LoadedModel
from service.inference.submission import Probabilities
from service.observability.metrics import Metrics
from service.settings import Settings

log = logging.getLogger("kernelscope")

_QUEUE: Final = 16
"""Samples that may wait to be written."""
_EXPIRE_SECONDS: Final = 600.0
"""Between looks for samples that are too old."""
_LOG_SECONDS: Final = 60.0
"""Between lines in the log that say that nothing can be written."""


@dataclass
class TokenBucket:
    """At most `rate` a second, and as many at once as a second allows, but one at least."""

    rate: float
    clock: Callable[[], float] = time.monotonic
    _tokens: float = 1.0
    _since: float = field(default=0.0)

    def __post_init__(self) -> None:
        self._since = self.clock()

    def take(self) -> bool:
        """Whether there is one."""
        now = self.clock()
        self._tokens = min(max(1.0, self.rate), self._tokens + (now - self._since) * self.rate)
        self._since = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Feedback:
    """One process' part in what is kept.

    Args:
        root: the folder, or the address of one in an object store.
        settings: how much, how fast and for how long.
        metrics: told of each sample.
        workers: processes in the group, which share the rate and the memory.
        forward: hands a sample to the process that writes, and returns whether it was there; None where this one does.
    """

    def __init__(
        self,
        root: str,
        settings: Settings,
        metrics: Metrics,
        workers: int,
        forward: Callable[[Sample], Coroutine[Any, Any, bool]] | None,
    ) -> None:
        self._metrics, self._forward = metrics, forward
        bounds = settings.feedback_bytes, settings.feedback_days
        self._store: FeedbackFolder | FeedbackBucket = (
            FeedbackBucket(root, *bounds) if "://" in root else FeedbackFolder(Path(root), *bounds)
        )
        self._recent = RecentAnswers(settings.feedback_memory // workers)
        self._unsure, self._disputed = (TokenBucket(settings.feedback_rate / workers) for _ in range(2))
        self._queue: queue.Queue[Sample | None] = queue.Queue(_QUEUE)
        self._forwarding = set[asyncio.Task[None]]()
        self._logged = float("-inf")
        # a daemon: a disk that does not answer must not hold up the end
        self._thread = threading.Thread(target=self._write, name="feedback", daemon=True)

    def start(self) -> None:
        """Begin to write, if this process does."""
        if self._forward is None:
            self._thread.start()

    def close(self) -> None:
        """Write no more once what waits is written, for which nobody waits long."""
        for task in self._forwarding:
            task.cancel()
        if self._thread.is_alive():
            try:
                self._queue.put_nowait(None)
            except queue.Full:
                return
            self._thread.join(1)

    def offer(self, request_id: str, loaded: LoadedModel, images: Pixels, probabilities: Probabilities) -> None:
        """Remember a request's answers, and keep those that are unsure, as far as the rate allows.

        Args:
            request_id: by which a client may dispute them.
            loaded: what answered.
            images: uint8 (N, H, W, 3).
            probabilities: float32 (N, classes).
        """
        answered = Answered(loaded.name, loaded.version, loaded.card.labels, own(images), probabilities)
        self._recent.add(request_id, answered)
        for index in (probabilities.max(1) < loaded.card.unsure_below).nonzero()[0].tolist():
            if self._unsure.take():
                self._send(_sample(answered, index, None, disputed=False))
            else:
                self._metrics.feedback_dropped.labels("rate").inc()

    def find(self, request_id: str) -> Answered | None:
        """What this process has answered to a request; None where it was another, or is too long ago."""
        return self._recent.find(request_id)

    def dispute(self, answered: Answered, index: int, label: str | None) -> bool:
        """Keep an image whose answer a client says was wrong; returns whether the rate allows it.

        Args:
            answered: its request's answers.
            index: which of its images.
            label: what it is, one of the model's classes; None where the client does not say.
        """
        if not self._disputed.take():
            self._metrics.feedback_dropped.labels("rate").inc()
            return False
        self._send(_sample(answered, index, label, disputed=True))
        return True

    def put(self, sample: Sample) -> None:
        """Queue a sample of this or another process."""
        try:
            self._queue.put_nowait(sample)
        except queue.Full:
            self._metrics.feedback_dropped.labels("busy").inc()

    def _send(self, sample: Sample) -> None:
        if self._forward is None:
            self.put(sample)
            return
        task = asyncio.get_running_loop().create_task(self._hand_over(self._forward, sample))
        self._forwarding.add(task)
        task.add_done_callback(self._forwarding.discard)

    async def _hand_over(self, forward: Callable[[Sample], Coroutine[Any, Any, bool]], sample: Sample) -> None:
        if not await forward(sample):
            self._metrics.feedback_dropped.labels("busy").inc()

    # --- on the thread

    def _write(self) -> None:
        due = 0.0
        while True:
            if time.monotonic() >= due:
                self._attempt(self._store.expire if due else self._store.open)
                due = time.monotonic() + _EXPIRE_SECONDS
            try:
                sample = self._queue.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                continue
            if sample is None:
                return
            if self._attempt(partial(self._store.keep, sample)):
                self._metrics.feedback_images.labels(sample.model, str(sample.version), sample.kind).inc()

    def _attempt(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except StoreFull:
            self._metrics.feedback_dropped.labels("full").inc()
            return False
        except Exception as error:  # whatever it is: the thread goes on, and the disk may come back
            self._metrics.feedback_dropped.labels("storage").inc()
            if time.monotonic() - self._logged > _LOG_SECONDS:
                self._logged = time.monotonic()
                log.error("feedback cannot be kept in %s: %s", self._store.root, error)  # noqa: TRY400
            return False
        self._metrics.feedback_bytes.set(self._store.held)
        return True


def _sample(answered: Answered, index: int, label: str | None, *, disputed: bool) -> Sample:
    return Sample(
        "disputed" if disputed else "unsure",
        answered.model,
        answered.version,
        likeliest(answered.labels, answered.probabilities[index]),
        label,
        answered.images[index].copy(),
    )
