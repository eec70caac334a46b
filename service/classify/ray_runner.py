"""Shares the parts of a job out on a Ray cluster, through Ray Data: actors hold the model, parts stream through them.

Each row of the data set is a part: its number and the names of its images on the way there, its Parquet file on the way
back, which this process alone writes. So a part that two actors have done, because a node died, is there once.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self

import ray
import ray.data
import ray.exceptions

from contract import bundle
from contract.errors import KernelscopeError
from contract.session import first_line
from service import ray_cluster
from service.classify import listing, table
from service.classify.errors import JobError
from service.classify.job import Job
from service.classify.worker import Item, Setup, Work

_TRIES: Final = 3
"""Of a part whose actor or node dies."""
_AT_ONCE: Final = 1000
"""Parts whose names are in memory."""


class RayRunner:
    """Runs the pending parts of a job on a cluster.

    The nodes must have Kernelscope with the extras `classify` and `ray`, and find the images under the same name: at an
    address, or in a folder that they share. Model and names are sent to them.

    Args:
        workers: actors, as far as there are cores.
        address: of the cluster; `auto` for the one that this machine belongs to, `local` for a new one here.

    Raises:
        KernelscopeError: the cluster cannot be joined.
    """

    def __init__(self, workers: int, address: str) -> None:
        self._count, self._address = workers, address

    def __enter__(self) -> Self:
        ray_cluster.join(self._address)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        return self

    def __exit__(self, *_: object) -> None:
        ray.shutdown()

    def run(self, job: Job, setup: Setup, pending: list[int], progress: Callable[[int], None]) -> None:
        """Do all pending parts of a job.

        Args:
            job: the job.
            setup: what each actor works on.
            pending: the numbers of the parts.
            progress: called with images that are newly done.

        Raises:
            JobError: the cluster has no core, an actor cannot work, or a part ends its actor again and again. What is
                done stays done.
        """
        numbers = iter(pending)
        try:
            while some := list(islice(numbers, _AT_ONCE)):
                self._run_some(job, setup, some, progress)
        except ray.exceptions.RayError as error:
            raise JobError(f"{_cause(error)}; what is done is kept, and the same command goes on") from None

    def _run_some(self, job: Job, setup: Setup, numbers: Sequence[int], progress: Callable[[int], None]) -> None:
        cores = int(ray.cluster_resources().get("CPU", 0))
        actors = min(self._count, cores, len(numbers))
        if not actors:
            raise JobError(f"the Ray cluster at {self._address!r} has no core")
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        rows = [{"part": number, "names": _pack(_items(job, number))} for number in numbers]
        parts = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Parts,
            batch_size=1,
            fn_constructor_args=(_Shipped.of(setup, actors),),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors),
            num_cpus=1,
            ray_remote_args_fn=_tries,
        )
        for row in parts.iter_rows():
            number = int(row["part"])
            table.keep(row["rows"], job.part(number))
            progress(job.state.images_of(number))


def _tries() -> dict[str, int]:
    """Without it Ray begins a part that ends its actor again for ever."""
    return {"max_restarts": _TRIES, "max_task_retries": _TRIES}


def _items(job: Job, number: int) -> Iterator[Item]:
    size = job.state.part_size
    return listing.read(job.folder, number * size, size)


@dataclass(frozen=True)
class _Shipped:
    """A setup with the files of its model, for nodes that do not see this one's disk."""

    setup: Setup
    files: dict[str, bytes]

    @classmethod
    def of(cls, setup: Setup, actors: int) -> _Shipped:
        names = (bundle.MODEL, bundle.CARD)
        return cls(replace(setup, workers=actors), {name: (setup.model / name).read_bytes() for name in names})


class _Parts:
    """An actor: the model is loaded once, then part after part is classified."""

    def __init__(self, shipped: _Shipped) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="kernelscope-")
        model = Path(self._folder.name) / shipped.setup.model.parent.name / shipped.setup.model.name
        model.mkdir(parents=True)
        for name, data in shipped.files.items():
            (model / name).write_bytes(data)
        self._work = Work(replace(shipped.setup, model=model))

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """One part's Parquet file."""
        path = Path(self._folder.name) / "part.parquet"
        for _ in self._work.part(_unpack(batch["names"][0]), path):
            """As far as it goes, nobody asks."""
        return {"part": [int(batch["part"][0])], "rows": [path.read_bytes()]}


def _pack(items: Iterator[Item]) -> bytes:
    return b"".join(f"{size}:".encode() + os.fsencode(name) + b"\0" for name, size in items)


def _unpack(data: bytes) -> Iterator[Item]:
    for record in data.split(b"\0")[:-1]:
        size, _, name = record.partition(b":")
        yield os.fsdecode(name), int(size)


def _cause(error: Exception) -> str:
    """What went wrong, in one line: Ray wraps it in its own errors, and prints the stack of the other process."""
    cause: BaseException = error
    while (inner := getattr(cause, "cause", None) or cause.__cause__) is not None and inner is not cause:
        cause = inner
    if isinstance(cause, KernelscopeError):
        return str(cause)
    lines = [line for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[-1].strip() if lines else first_line(error)}"
