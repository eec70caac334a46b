"""Shares the parts of a job out among worker processes, and replaces those that die."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final, Self

from service.classify.errors import JobError
from service.classify.job import Job
from service.classify.worker import FAILED, PROGRESS, Setup, work_on_parts

_TRIES: Final = 3
"""Of a part whose process dies; from the second on, each image is decoded in a process of its own."""


@dataclass
class _Worker:
    process: SpawnProcess
    link: Connection
    setup: Setup | None = None
    part: int | None = None
    images: int = 0
    """Of the part under way."""


class Runner:
    """Worker processes, which are ended with the block.

    They are started at once, and import what they need while it is found out what there is to do.

    Args:
        workers: how many.
    """

    def __init__(self, workers: int) -> None:
        self._count = workers
        self._workers: list[_Worker] = []
        self._deaths: Counter[int] = Counter()
        self._waiting: deque[int] = deque()

    def __enter__(self) -> Self:
        for _ in range(self._count):
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.link.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()

    def run(self, job: Job, setup: Setup, pending: list[int], progress: Callable[[int], None]) -> None:
        """Do all pending parts of a job.

        Args:
            job: the job.
            setup: what each worker works on.
            pending: the numbers of the parts.
            progress: called with images that are newly done; negative where a part is begun again.

        Raises:
            JobError: a worker cannot work, or one part ends its process again and again. What is done stays done.
        """
        self._waiting.extend(pending)
        while self._waiting or any(worker.part is not None for worker in self._workers):
            self._share_out(job, setup)
            ready = wait([worker.link for worker in self._workers])
            for worker in [worker for worker in self._workers if worker.link in ready]:
                self._listen(worker, job, progress)

    def _share_out(self, job: Job, setup: Setup) -> None:
        """Give each idle worker a part; one that its processes have died of gets a careful one of its own."""
        while self._waiting and len([worker for worker in self._workers if worker.part is not None]) < self._count:
            part = self._waiting.popleft()
            wanted = replace(setup, careful=self._deaths[part] > 0)
            idle = [worker for worker in self._workers if worker.part is None and worker.setup in (None, wanted)]
            self._give(idle[0] if idle else self._start(), wanted, part, job)

    def _give(self, worker: _Worker, setup: Setup, part: int, job: Job) -> None:
        worker.part, worker.images = part, 0
        with contextlib.suppress(BrokenPipeError):  # it has died meanwhile, which `_listen` will see
            if worker.setup is None:
                worker.setup = setup
                worker.link.send(setup)
            worker.link.send((part, job.part(part)))

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work_on_parts, args=(theirs,), daemon=True)
        # which it inherits: Ctrl-C, during its imports, too, is for this process alone
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        theirs.close()
        self._workers.append(_Worker(process, ours))
        return self._workers[-1]

    def _listen(self, worker: _Worker, job: Job, progress: Callable[[int], None]) -> None:
        try:
            kind, value = worker.link.recv()
        except (EOFError, ConnectionResetError):
            self._bury(worker, job, progress)
            return
        if kind == FAILED:
            raise JobError(f"{value}; what is done is kept, and the same command goes on")
        if kind == PROGRESS:
            worker.images += value
            progress(value)
        else:
            worker.part = None

    def _bury(self, worker: _Worker, job: Job, progress: Callable[[int], None]) -> None:
        """A worker has died: its part is begun again, with more care."""
        worker.process.join()
        part, code = worker.part, worker.process.exitcode
        self._workers.remove(worker)
        if part is None:
            return
        self._deaths[part] += 1
        progress(-worker.images)
        if self._deaths[part] == _TRIES:
            first, count = part * job.state.part_size, job.state.images_of(part)
            raise JobError(
                f"the process of images {first:,} to {first + count - 1:,} ended {_TRIES} times (exit code {code}); "
                "what is done is kept"
            )
        self._waiting.appendleft(part)
