"""Shares the parts of a job out among worker processes, and replaces those that die."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final

from service.classify import worker
from service.classify.errors import JobError
from service.classify.job import Job
from service.classify.worker import Setup

_TRIES: Final = 3
"""Of a part whose process dies; from the second on, each image is decoded in a process of its own."""


@dataclass
class _Worker:
    process: SpawnProcess
    link: Connection
    part: int | None = None
    images: int = 0
    """Of the part under way."""


class Runner:
    """Runs the pending parts of a job.

    Args:
        job: the job.
        setup: what each worker works on.
        progress: called with images that are newly done; negative where a part is begun again.
    """

    def __init__(self, job: Job, setup: Setup, progress: Callable[[int], None]) -> None:
        self._job, self._setup, self._progress = job, setup, progress
        self._deaths: Counter[int] = Counter()
        self._workers: list[_Worker] = []
        self._waiting: deque[int] = deque()

    def run(self, pending: list[int]) -> None:
        """Do all pending parts.

        Raises:
            JobError: a worker cannot work, or one part ends its process again and again. What is done stays done.
        """
        self._waiting.extend(pending)
        try:
            while self._waiting or any(one.part is not None for one in self._workers):
                self._share_out()
                ready = wait([one.link for one in self._workers])
                for one in [one for one in self._workers if one.link in ready]:
                    self._listen(one)
        finally:
            for one in self._workers:
                one.link.close()
                one.process.terminate()
            for one in self._workers:
                one.process.join()

    def _share_out(self) -> None:
        for one in self._workers:
            if one.part is None and self._waiting and not self._is_careful(self._waiting[0]):
                self._give(one, self._waiting.popleft())
        while self._waiting and len([one for one in self._workers if one.part is not None]) < self._setup.workers:
            part = self._waiting.popleft()
            one = self._start(careful=self._is_careful(part))
            self._give(one, part)

    def _is_careful(self, part: int) -> bool:
        return self._deaths[part] > 0

    def _give(self, one: _Worker, part: int) -> None:
        one.part, one.images = part, 0
        with contextlib.suppress(BrokenPipeError):  # it has died meanwhile, which `_listen` will see
            one.link.send((part, self._job.part(part)))

    def _start(self, *, careful: bool) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=worker.main, args=(replace(self._setup, careful=careful), theirs), daemon=True)
        process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours))
        return self._workers[-1]

    def _listen(self, one: _Worker) -> None:
        try:
            kind, value = one.link.recv()
        except (EOFError, ConnectionResetError):
            self._replace(one)
            return
        if kind == worker.FAILED:
            raise JobError(f"{value}; what is done is kept, and the same command goes on")
        if kind == worker.PROGRESS:
            one.images += value
            self._progress(value)
        else:
            is_careful, one.part = self._is_careful(int(value)), None
            if is_careful:  # it decodes slowly: the next part gets another
                self._end(one)

    def _replace(self, one: _Worker) -> None:
        """A worker has died: begin its part again, with more care."""
        one.process.join()
        part, code = one.part, one.process.exitcode
        self._workers.remove(one)
        if part is None:
            return
        self._deaths[part] += 1
        self._progress(-one.images)
        if self._deaths[part] == _TRIES:
            first, count = part * self._job.state.part_size, self._job.state.images_of(part)
            raise JobError(
                f"the process of images {first:,} to {first + count - 1:,} ended {_TRIES} times (exit code {code}); "
                "what is done is kept"
            )
        self._waiting.appendleft(part)

    def _end(self, one: _Worker) -> None:
        one.link.close()
        one.process.join()
        self._workers.remove(one)
