"""The images of a job, on disk: written once, read part by part, so that memory does not grow with their number."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from service.classify.sources import Entry, Source

_NAMES: Final = "names"
_STARTS: Final = "starts"
_BITS: Final = 128
_BLOCK: Final = 64
"""Images between two places whose offset is kept: a part begins at a multiple of it."""


@dataclass(frozen=True)
class Census:
    """What a listing holds.

    Attributes:
        images: how many.
        digest: changes with any name, size or tag, and not with the order.
    """

    images: int
    digest: str


class _Counting:
    """Counts entries and sums their hashes up, so that the order does not matter."""

    def __init__(self) -> None:
        self.images, self._sum = 0, 0

    def add(self, entry: Entry) -> None:
        text = f"{entry.size}\0{entry.tag}\0".encode() + os.fsencode(entry.name)
        hashed = hashlib.blake2b(text, digest_size=_BITS // 8).digest()
        self._sum = (self._sum + int.from_bytes(hashed, "big")) % 2**_BITS
        self.images += 1

    def census(self) -> Census:
        return Census(self.images, f"{self._sum:0{_BITS // 4}x}")


def count(source: Source) -> Census:
    """Take the census of a source without keeping its names."""
    counting = _Counting()
    for entry in source.entries():
        counting.add(entry)
    return counting.census()


def write(source: Source, folder: Path, progress: Callable[[int], None] = lambda images: None) -> Census:
    """List a source into a folder.

    Args:
        source: where the images are.
        folder: gets the files `names` and `starts`.
        progress: called with the number of images now and then.
    """
    counting = _Counting()
    with (folder / _NAMES).open("wb") as names, (folder / _STARTS).open("wb") as starts:
        for entry in source.entries():
            if counting.images % _BLOCK == 0:
                starts.write(np.int64(names.tell()).tobytes())
                progress(counting.images)
            names.write(f"{entry.size}:".encode() + os.fsencode(entry.name) + b"\0")
            counting.add(entry)
        starts.write(np.int64(names.tell()).tobytes())
        for file in (names, starts):
            file.flush()
            os.fsync(file.fileno())
    return counting.census()


def part_size(images: int, workers: int, largest: int) -> int:
    """Images of a part: `largest`, or fewer where all workers would not have several; a multiple of `_BLOCK`."""
    even = images // (4 * workers)
    return max(_BLOCK, min(largest, even) // _BLOCK * _BLOCK)


def read(folder: Path, first: int, count: int) -> Iterator[tuple[str, int]]:
    """Names and sizes of `count` images from number `first`, a multiple of `_BLOCK`, or of as many as there are."""
    with (folder / _STARTS).open("rb") as starts:
        starts.seek(first // _BLOCK * np.int64().nbytes)
        start = int(np.frombuffer(starts.read(np.int64().nbytes), np.int64)[0])
        starts.seek(min((first + count) // _BLOCK * 8, starts.seek(0, os.SEEK_END) - 8))
        end = int(np.frombuffer(starts.read(np.int64().nbytes), np.int64)[0])
    with (folder / _NAMES).open("rb") as names:
        names.seek(start)
        for record in names.read(end - start).split(b"\0")[:-1]:
            size, _, name = record.partition(b":")
            yield os.fsdecode(name), int(size)
