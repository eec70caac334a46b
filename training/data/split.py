"""Labelled images as arrays, in memory or on disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from contract import preprocessing
from training.data.jpeg import compress
from training.data.problems import Problem


class Rows:
    """Rows of arrays on disk, in any order, read when they are indexed.

    It has what is used of an array of images: length, shape, dtype, and indexing by position.

    Args:
        parts: arrays of images of one shape, or other rows.
        index: positions in these, one part after the other.
    """

    def __init__(self, parts: Sequence[preprocessing.Pixels], index: npt.NDArray[np.integer[Any]]) -> None:
        self._parts, self._index = parts, index
        self._begins = np.cumsum([0, *map(len, parts)])
        self.shape = (len(index), *parts[0].shape[1:])
        self.dtype, self.ndim, self.size = parts[0].dtype, parts[0].ndim, math.prod(self.shape)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, place: Any) -> preprocessing.Pixels:
        rows = self._index[place]
        images = np.empty((*rows.shape, *self.shape[1:]), self.dtype)
        part_of_row = np.searchsorted(self._begins, rows, "right") - 1
        for number, part in enumerate(self._parts):
            inside = part_of_row == number
            images[inside] = part[rows[inside] - self._begins[number]]
        return images

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype)


@dataclass(frozen=True)
class Split:
    """Images: uint8 (N, H, W, 3) RGB, in memory or on disk. Targets: int64 (N,), indices into the class names.

    Names: those of the images' files; None where the images are from no files.
    """

    images: preprocessing.Pixels
    targets: npt.NDArray[np.int64]
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, index: npt.NDArray[np.integer[Any]]) -> Split:
        """Return the images at those positions; images on disk stay there."""
        images = cast("preprocessing.Pixels", Rows([self.images], index)) if self.is_on_disk else self.images[index]
        names = None if self.names is None else tuple(self.names[place] for place in index.tolist())
        return Split(images, self.targets[index], names)

    def joined(self, *others: Split) -> Split:
        """Return its images and then those of others; images on disk stay there."""
        splits = (self, *others)
        arrays, targets = [split.images for split in splits], np.concatenate([split.targets for split in splits])
        named = [split.names for split in splits if split.names is not None]
        names = tuple(chain.from_iterable(named)) if len(named) == len(splits) else None
        if any(split.is_on_disk for split in splits):
            return Split(cast("preprocessing.Pixels", Rows(arrays, np.arange(len(targets)))), targets, names)
        return Split(np.concatenate(arrays), targets, names)

    def with_jpeg(self, quality: int) -> Split:
        """Return its images and then the same as JPEG of that quality, 1 to 100; the split itself for 0."""
        return self.joined(Split(compress(self.images[:], [quality] * len(self)), self.targets)) if quality else self

    @property
    def is_on_disk(self) -> bool:
        """Whether the images are read from disk when they are indexed."""
        return isinstance(self.images, np.memmap | Rows)


@dataclass(frozen=True)
class Facts:
    """What the encoded images were like: how many of each format, and sizes as (height, width) in pixels.

    The median is that of heights and of widths; upright, as their EXIF orientation turns them.
    """

    formats: dict[str, int]
    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]


@dataclass(frozen=True)
class Decoded:
    """All images of a source, before the validation split is held out.

    Attributes:
        labels: the class names, in the order of the targets.
        splits: by `train`, `validation` and `test`, as far as the source has them.
        checksum: SHA-256 of the names, classes and bytes of the images that are used.
        file_checksum: SHA-256 of the file that they are from; empty for a folder.
        notes: what was understood of the source, one line each.
        problems: what was left out, and what else is odd.
        facts: of the files, where there were any.
        first_copies: int64 (N,), for each training image the position of the first one of the same bytes, its own where
            there is no other; None where no two are the same.
    """

    labels: tuple[str, ...]
    splits: dict[str, Split]
    checksum: str
    file_checksum: str = ""
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    facts: Facts | None = None
    first_copies: npt.NDArray[np.int64] | None = None
