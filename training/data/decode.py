"""Images, decoded: many small files -> a few arrays.

Those that are more than memory holds are written to the cache as they are decoded, and read from there while training.
"""

from __future__ import annotations

import os
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar

import numpy as np
from PIL import Image

from contract import formats, preprocessing
from contract.errors import DataError, ImageError
from training.data import cache, memory
from training.data.split import Decoded, Split

_LARGEST_SIDE: Final = 224
"""Images larger than this are shrunk to it unless a size is asked for."""

_A = TypeVar("_A")
_B = TypeVar("_B")

Progress = Callable[[int, int], None]
"""Called with images done and images in all."""


@dataclass(frozen=True)
class Item:
    """One image of a folder or an archive: its split, its class, a name for messages, and how to get its bytes.

    A folder is one too, with nothing to read: so a class without images is noticed.
    """

    split: str
    label: str
    name: str
    read: Callable[[], bytes]
    is_image: bool = True


def decode(
    checksum: str,
    list_items: Callable[[], list[Item]],
    size: tuple[int, int] | None,
    resize_mode: preprocessing.ResizeMode,
    progress: Progress,
    where: str,
) -> Decoded:
    """Decode a source's images, or take them from the cache.

    Args:
        checksum: the source's; the cache's key.
        list_items: finds its images and folders; not called where the cache has them.
        size: height and width to bring images to; their own where None, see `training.data.load`.
        resize_mode: how an image of another shape takes that size.
        progress: called while images are decoded.
        where: what to call the source in an error.

    Raises:
        DataError: there are no images, none that can be read, or a class's folder has none.
    """
    shape = "own" if size is None else f"{size[0]}x{size[1]}"
    folder = cache.home() / f"{checksum[:32]}-{shape}-{resize_mode}-{cache.FORMAT}"
    return cache.read(folder) or _decode_all(list_items(), size, resize_mode, progress, where, folder)


def _decode_all(
    items: list[Item],
    size: tuple[int, int] | None,
    resize_mode: preprocessing.ResizeMode,
    progress: Progress,
    where: str,
    folder: Path,
) -> Decoded:
    if not any(item.is_image for item in items):
        kinds = " ".join(formats.SUFFIXES)
        raise DataError(f"{where} holds no images in class folders: expected train/<class>/*.jpg (one of {kinds})")
    outside: list[str] = []
    if any(item.split == "train" for item in items):
        outside = [
            f"{item.name}: it is in no split's folder, and there is a train/: move its class in there"
            for item in items
            if item.is_image and not item.split
        ]
        items = [item for item in items if item.split]
    else:  # no train/ folder: the class folders that stand at the top are for training
        items = [replace(item, split=item.split or "train") for item in items]
    items = _without_folders(items, where)
    labels = tuple(sorted({item.label for item in items}, key=lambda label: (label.lower(), label)))
    number = {label: index for index, label in enumerate(labels)}
    height, width = size or _own_size(items)
    skipped: list[str] = []

    def one(item: Item) -> preprocessing.Pixels | str:
        try:
            return preprocessing.read(item.read(), height, width, resize_mode)
        except ImageError as error:
            return f"{item.name}: {error}"
        except OSError as error:  # a file that may not be read, a link to nowhere
            return f"{item.name}: {error.strerror or error}"

    def readable() -> Iterator[tuple[str, int, preprocessing.Pixels]]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for done, (item, result) in enumerate(zip(items, _in_order(pool, one, items), strict=True), 1):
                if isinstance(result, str):
                    skipped.append(result)
                else:
                    yield item.split, number[item.label], result
                progress(done, len(items))
        skipped.extend(outside)

    if len(items) * height * width * 3 > memory.limit():
        decoded = _to_disk(readable(), labels, skipped, (height, width), folder)
    else:
        decoded = _to_memory(readable(), labels, skipped)
        if decoded.splits:
            cache.write(folder, decoded)
    if not decoded.splits:
        raise DataError(f"none of the {len(items)} images in {where} can be read; the first: {skipped[0]}")
    return decoded


def _to_memory(
    readable: Iterator[tuple[str, int, preprocessing.Pixels]], labels: tuple[str, ...], skipped: list[str]
) -> Decoded:
    kept: dict[str, tuple[list[preprocessing.Pixels], list[int]]] = {}
    for split, number, pixels in readable:
        images, numbers = kept.setdefault(split, ([], []))
        images.append(pixels)
        numbers.append(number)
    splits = {name: Split(np.stack(x), np.array(y, np.int64)) for name, (x, y) in kept.items()}
    return Decoded(labels, splits, tuple(skipped))


def _to_disk(
    readable: Iterator[tuple[str, int, preprocessing.Pixels]],
    labels: tuple[str, ...],
    skipped: list[str],
    size: tuple[int, int],
    folder: Path,
) -> Decoded:
    """Write images to the cache one by one, and open them there.

    Raises:
        DataError: the cache cannot take them.
    """
    numbers: dict[str, list[int]] = {}
    try:
        with cache.staged(folder) as staged, ExitStack() as files:
            open_files: dict[str, Any] = {}
            for split, number, pixels in readable:
                if split not in open_files:
                    open_files[split] = files.enter_context((staged / f"{split}.pixels").open("wb"))
                open_files[split].write(pixels.tobytes())
                numbers.setdefault(split, []).append(number)
            files.close()
            cache.write_notes(staged, Decoded(labels, {}, tuple(skipped)), size, numbers)
    except OSError as error:
        raise DataError(
            f"the images are more than memory holds, and {folder.parent} cannot take them ({error.strerror}): give "
            "a smaller --size, or set KERNELSCOPE_CACHE to a folder on a larger disk"
        ) from None
    return cache.read(folder) or Decoded(labels, {}, tuple(skipped))


def _without_folders(items: list[Item], where: str) -> list[Item]:
    """The images alone. Raises `DataError` for a class's folder that has none."""
    images = [item for item in items if item.is_image]
    known = {(item.split, item.label) for item in images}
    above = {str(parent) for item in images for parent in PurePosixPath(item.name).parents}
    for item in items:
        if not item.is_image and (item.split, item.label) not in known and item.name not in above:
            raise DataError(f"{where}: class {item.label!r} is empty ({item.name} has no images): fill or remove it")
    return images


def _in_order(pool: ThreadPoolExecutor, work: Callable[[_A], _B], inputs: Iterable[_A]) -> Iterator[_B]:
    """Like `pool.map`, but with a bounded number of results waiting."""
    source = iter(inputs)
    waiting = deque(pool.submit(work, item) for item in islice(source, 512))
    for item in source:
        yield waiting.popleft().result()
        waiting.append(pool.submit(work, item))
    for future in waiting:
        yield future.result()


def _own_size(items: list[Item]) -> tuple[int, int]:
    """The size of the first images where it is one and the same, else the median of their shorter sides, square."""
    sizes = []
    for item in items[:: max(1, len(items) // 200)]:
        try:
            sizes.append(preprocessing.upright_size(preprocessing.open_header(item.read())))
        except (ImageError, OSError):  # an unreadable image is counted and named when it is decoded, not here
            continue
    if len(set(sizes)) == 1 and max(sizes[0]) <= _LARGEST_SIDE:
        return sizes[0]
    side = min(_LARGEST_SIDE, int(statistics.median(min(pair) for pair in sizes))) if sizes else 32
    return side, side


def resized(decoded: Decoded, size: tuple[int, int], resize_mode: preprocessing.ResizeMode) -> Decoded:
    """The same images at another height and width."""

    def all_of(split: Split) -> Split:
        if split.images.shape[1:3] == size:
            return split
        images = [preprocessing.resize(Image.fromarray(pixels), *size, resize_mode) for pixels in split.images]
        return Split(np.stack(images), split.targets)

    return replace(decoded, splits={name: all_of(split) for name, split in decoded.splits.items()})
