"""Images, decoded: many small files -> a few arrays.

Those that are more than memory holds are written to the cache as they are decoded, and read from there while training.
"""

from __future__ import annotations

import hashlib
import os
import statistics
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from PIL import Image

from contract import preprocessing
from contract.errors import DataError, ImageError
from training.data import cache, duplicates, memory
from training.data.layout import Place
from training.data.names import natural
from training.data.problems import Problem, named
from training.data.split import Decoded, Facts, Split

_LARGEST_SIDE: Final = 224
"""Images larger than this are shrunk to it unless a size is asked for."""
_SAMPLE: Final = 200
"""Images whose size decides that of all."""

_A = TypeVar("_A")
_B = TypeVar("_B")

Size = tuple[int, int] | Callable[[tuple[int, int]], tuple[int, int]] | None
"""Height and width to bring images to, or what tells it from their own; their own where None."""
Progress = Callable[[int, int], None]
"""Called with images done and images in all."""


@dataclass(frozen=True)
class Item:
    """One image of a folder or an archive: where it belongs, how to get its bytes, and their SHA-256."""

    place: Place
    read: Callable[[], bytes]
    digest: str

    @property
    def line(self) -> bytes:
        """What the data's checksum says of it."""
        place = self.place
        return os.fsencode(f"{place.split}\0{place.label}\0{place.key}\0{self.digest}\n")


def checksum(items: Iterable[Item]) -> str:
    """SHA-256 of images' splits, classes, names and bytes, in hexadecimal."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(item.line)
    return digest.hexdigest()


def decode(
    items: list[Item],
    size: tuple[int, int],
    resize_mode: preprocessing.ResizeMode,
    progress: Progress,
    folder: Path,
) -> Decoded:
    """Decode images, and keep them in the cache.

    Args:
        items: the images, in the order that the arrays will have.
        size: height and width to bring images to.
        resize_mode: how an image of another shape takes that size.
        progress: called while images are decoded.
        folder: where the cache is to hold them.

    Returns:
        The images that can be read; the problems name the others, and classes that have no other ones.

    Raises:
        DataError: none can be read, or they are more than memory holds and the cache cannot take them.
    """
    run = _Run(items, size, resize_mode, progress)
    if len(items) * size[0] * size[1] * 3 > memory.limit():
        decoded = _to_disk(run, folder)
    else:
        decoded = _to_memory(run)
        if decoded.splits:
            cache.write(folder, decoded)
    if not decoded.splits:
        raise DataError(f"none of the {len(items):,} images can be read; {run.unreadable()[0].message}")
    return decoded


@dataclass
class _Run:
    """Decodes the items one by one, in order, and remembers what it saw."""

    items: list[Item]
    size: tuple[int, int]
    resize_mode: preprocessing.ResizeMode
    progress: Progress
    failed: dict[str, str] = field(default_factory=dict)
    formats: Counter[str] = field(default_factory=Counter)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    targets: dict[str, list[int]] = field(default_factory=dict)
    """Indices into `labels`, by split."""
    names: dict[str, list[str]] = field(default_factory=dict)
    """Of the images' files, by split."""
    digests: list[str] = field(default_factory=list)
    """Of the training images."""

    def __post_init__(self) -> None:
        self.labels = sorted({item.place.label for item in self.items}, key=natural)

    def images(self) -> Iterator[tuple[str, preprocessing.Pixels]]:
        """Each readable image with its split."""
        number = {label: index for index, label in enumerate(self.labels)}
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            results = zip(self.items, in_order(pool, self._one, self.items), strict=True)
            for done, (item, result) in enumerate(results, 1):
                if isinstance(result, str):
                    self.failed[item.place.name] = result
                else:
                    pixels, kind, size = result
                    self.formats[kind] += 1
                    self.sizes.append(size)
                    self.targets.setdefault(item.place.split, []).append(number[item.place.label])
                    self.names.setdefault(item.place.split, []).append(item.place.name)
                    if item.place.split == "train":
                        self.digests.append(item.digest or item.place.name)
                    yield item.place.split, pixels
                self.progress(done, len(self.items))

    def _one(self, item: Item) -> tuple[preprocessing.Pixels, str, tuple[int, int]] | str:
        try:
            image = preprocessing.open_header(item.read())
            kind, size = image.format or "", preprocessing.upright_size(image)
            return preprocessing.finish(image, *self.size, self.resize_mode), kind, size
        except ImageError as error:
            return str(error)
        except OSError as error:  # it could be read a moment ago
            return error.strerror or str(error)

    def result(self, splits: dict[str, Split]) -> Decoded:
        """What there is once all images have been decoded: classes without a readable image are left out."""
        there = sorted({target for targets in self.targets.values() for target in targets})
        order = np.zeros(len(self.labels), np.int64)
        order[there] = np.arange(len(there))
        empty = [label for target, label in enumerate(self.labels) if target not in set(there)]
        gone = [
            Problem("empty_class", f"class {label!r} is left out: none of its images can be read", (label,))
            for label in empty
        ]
        return Decoded(
            labels=tuple(self.labels[target] for target in there),
            splits={
                name: Split(split.images, order[split.targets], tuple(self.names[name]))
                for name, split in splits.items()
            },
            checksum=checksum(item for item in self.items if item.place.name not in self.failed),
            problems=(*self.unreadable(), *gone),
            facts=self._facts() if self.sizes else None,
            first_copies=duplicates.first_copies(self.digests),
        )

    def unreadable(self) -> list[Problem]:
        """The images that could not be read, by reason."""
        by_reason: dict[str, list[str]] = {}
        for name, why in self.failed.items():
            by_reason.setdefault(why, []).append(name)
        return [
            Problem("unreadable", f"left out, as unreadable: {named(names)}: {why}", tuple(names))
            for why, names in by_reason.items()
        ]

    def _facts(self) -> Facts:
        def area(size: tuple[int, int]) -> int:
            return size[0] * size[1]

        heights, widths = zip(*self.sizes, strict=True)
        median = (int(statistics.median(heights)), int(statistics.median(widths)))
        return Facts(dict(self.formats.most_common()), min(self.sizes, key=area), median, max(self.sizes, key=area))


def _to_memory(run: _Run) -> Decoded:
    kept: dict[str, list[preprocessing.Pixels]] = {}
    for split, pixels in run.images():
        kept.setdefault(split, []).append(pixels)
    return run.result({name: Split(np.stack(x), np.array(run.targets[name], np.int64)) for name, x in kept.items()})


def _to_disk(run: _Run, folder: Path) -> Decoded:
    """Write images to the cache one by one, and open them there.

    Raises:
        DataError: the cache cannot take them.
    """
    try:
        with cache.staged(folder) as staged, ExitStack() as files:
            open_files: dict[str, Any] = {}
            for split, pixels in run.images():
                if split not in open_files:
                    open_files[split] = files.enter_context((staged / f"{split}.pixels").open("wb"))
                open_files[split].write(pixels.tobytes())
            files.close()
            none = np.empty((0, *run.size, 3), np.uint8)
            splits = {name: Split(none, np.array(targets, np.int64)) for name, targets in run.targets.items()}
            decoded = run.result(splits)
            cache.write_notes(staged, decoded, run.size)
    except OSError as error:
        raise DataError(
            f"the images are more than memory holds, and {folder.parent} cannot take them ({error.strerror}): give "
            "a smaller --size, or set KERNELSCOPE_CACHE to a folder on a larger disk"
        ) from None
    return cache.read(folder) or replace(decoded, splits={})


def in_order(pool: ThreadPoolExecutor, work: Callable[[_A], _B], inputs: Iterable[_A]) -> Iterator[_B]:
    """Like `pool.map`, but with a bounded number of results waiting."""
    source = iter(inputs)
    waiting = deque(pool.submit(work, item) for item in islice(source, 512))
    for item in source:
        yield waiting.popleft().result()
        waiting.append(pool.submit(work, item))
    for future in waiting:
        yield future.result()


def own_size(items: list[Item]) -> tuple[int, int]:
    """The size of some images where it is one and the same, else the median of their shorter sides, square."""
    sizes = []
    for item in items[:: max(1, len(items) // _SAMPLE)]:
        try:
            sizes.append(preprocessing.upright_size(preprocessing.open_header(item.read())))
        except (ImageError, OSError):  # an unreadable image is counted and named when it is decoded, not here
            continue
    if len(set(sizes)) == 1 and max(sizes[0]) <= _LARGEST_SIDE:
        return sizes[0]
    side = min(_LARGEST_SIDE, int(statistics.median(min(pair) for pair in sizes))) if sizes else 32
    return side, side


def chosen_size(size: Size, own: tuple[int, int]) -> tuple[int, int]:
    """The height and width that images of their own one are brought to."""
    return size(own) if callable(size) else size or own


def resized(decoded: Decoded, size: Size, resize_mode: preprocessing.ResizeMode) -> Decoded:
    """The same images at another height and width; as they are where `size` is None."""
    if size is None:
        return decoded
    height, width = next(iter(decoded.splits.values())).images.shape[1:3]
    wanted = chosen_size(size, (height, width))

    def all_of(split: Split) -> Split:
        if split.images.shape[1:3] == wanted:
            return split
        images = [preprocessing.resize(Image.fromarray(x), *wanted, resize_mode) for x in split.images]
        return replace(split, images=np.stack(images))

    return replace(decoded, splits={name: all_of(split) for name, split in decoded.splits.items()})
