"""The process that classifies parts: it reads, decodes, runs and writes each by itself."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import numpy as np

from contract import bundle
from contract.errors import KernelscopeError
from contract.session import first_line
from service.classify import listing, sources, table
from service.classify.decoding import Decoding
from service.classify.job import Options
from service.classify.sources import UNKNOWN, Source
from service.inference.engine import Engine

BATCH: Final = 64
"""Images that are run at once; those of a batch behind it are read meanwhile."""
_BATCH_BYTES: Final = 64 * 2**20
"""Of encoded images that are held at once, twice where the next batch is read ahead."""
_UNKNOWN_BYTES: Final = 4 * 2**20
"""What an image is taken to have whose size the listing does not tell."""
DONE, PROGRESS, FAILED = "done", "progress", "failed"

Item = tuple[str, int]


@dataclass(frozen=True)
class Setup:
    """What a worker works on.

    Attributes:
        where: the source of the images, as the user gave it.
        model: the bundle's folder.
        model_digest: what `Engine.digest` must be.
        options: what decides the answers.
        job: the job's own folder, which has the listing.
        part_size: images of a part.
        workers: how many processes share the machine.
        careful: whether every image is decoded in a process of its own.
    """

    where: str
    model: Path
    model_digest: str
    options: Options
    job: Path
    part_size: int
    workers: int
    careful: bool = False


def work_on_parts(link: Connection) -> None:
    """Classify the parts that come through `link`: a `Setup` first, then numbers and files, until it is closed.

    It is started before there is a setup, so that its imports take no time of the job's. It says `(PROGRESS, images)`
    after each batch, `(DONE, number)` after each part, and `(FAILED, message)` where no part can be done.
    """
    try:
        setup: Setup = link.recv()
        work = Work(setup)
    except EOFError:  # there is nothing to do
        return
    except (KernelscopeError, OSError) as error:
        link.send((FAILED, str(error)))
        return
    try:
        while True:
            number, path = link.recv()
            items = listing.read(setup.job, number * setup.part_size, setup.part_size)
            for images in work.part(items, path):
                link.send((PROGRESS, images))
            link.send((DONE, number))
    except (EOFError, BrokenPipeError):  # nobody waits for it any more
        return
    except Exception as error:  # whatever it is, it would be so again
        file = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        with contextlib.suppress(BrokenPipeError):
            link.send((FAILED, f"{file}{getattr(error, 'strerror', None) or first_line(error)}"))
    finally:
        work.close()


class Work:
    """What classifies parts: an engine, decoders and the source of the images, set up once.

    Args:
        setup: what it works on.

    Raises:
        KernelscopeError: the model cannot be loaded, or has changed; the source is not there.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._bundle = bundle.read(setup.model)
        self._engine = Engine(self._bundle, threads=1)
        if self._engine.digest != setup.model_digest:
            raise KernelscopeError(f"{self._bundle.model} has changed since the job began")
        self._source: Source = sources.find(setup.where)
        self._decoding = Decoding(
            self._bundle.card,
            max_pixels=setup.options.max_pixels,
            max_seconds=setup.options.max_seconds,
            share=setup.workers,
            careful=setup.careful,
        )
        self._ahead = ThreadPoolExecutor(1) if _waits(setup.where) else None
        self._columns = table.schema(self._bundle.card, {})

    def part(self, items: Iterator[Item], path: Path) -> Iterator[int]:
        """Classify images into a file; yields how many after each batch."""
        rows = table.Rows(self._bundle.card, self._columns, self._setup.options.top_k)
        parent = multiprocessing.parent_process()
        for batch, encoded in self._read(items):
            decoded = self._decoding.decode(encoded)
            pixels = [image for image in decoded if not isinstance(image, Exception)]
            classes = len(self._bundle.card.labels)
            answers = self._engine.run(np.stack(pixels)) if pixels else np.empty((0, classes), np.float32)
            errors = [image if isinstance(image, Exception) else None for image in decoded]
            rows.add([name for name, _ in batch], errors, answers)
            if parent is not None and not parent.is_alive():  # another may be at this part already
                raise BrokenPipeError
            yield len(batch)
        rows.write(path)

    def close(self) -> None:
        """End what it has started."""
        self._decoding.close()
        if self._ahead:
            self._ahead.shutdown(cancel_futures=True)

    def _read(self, items: Iterator[Item]) -> Iterator[tuple[Sequence[Item], list[bytes | Exception]]]:
        """Batches of images, and their bytes; where reading waits for a network, the next batch is read ahead."""
        batches = _batches(items)
        if self._ahead is None:
            yield from ((batch, self._source.read(batch)) for batch in batches)
            return
        waiting = [(batch, self._ahead.submit(self._source.read, batch)) for batch in itertools.islice(batches, 2)]
        while waiting:
            batch, future = waiting.pop(0)
            yield batch, future.result()
            waiting += [(batch, self._ahead.submit(self._source.read, batch)) for batch in itertools.islice(batches, 1)]


def _batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    """Images in batches of at most `BATCH`, and of `_BATCH_BYTES` where there are several."""
    held: list[Item] = []
    total = 0
    for name, size in items:
        taken = _UNKNOWN_BYTES if size == UNKNOWN else size
        if held and (len(held) == BATCH or total + taken > _BATCH_BYTES):
            yield held
            held, total = [], 0
        held.append((name, size))
        total += taken
    if held:
        yield held


def _waits(where: str) -> bool:
    return "://" in where or not Path(where).is_dir()
