"""Labelled pictures, decoded: many small files -> a few arrays, cached.

The cache is a folder of plain arrays in `cache_folder()`, keyed by the source's checksum and the decoding's rules.
Pictures that are more than memory holds are written there as they are decoded, and read from there while training.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from contract import images
from contract.errors import DataError, PictureError
from training import memory

_LARGEST_SIDE: Final = 224
"""Pictures larger than this are shrunk to it unless a size is asked for."""
_CACHE_FORMAT: Final = 4
_NOTES: Final = "notes.json"
_STAGED: Final = "staged-"
_FORGOTTEN: Final = 86400.0
"""Seconds after which what a killed process left half-written in the cache is removed."""

_A = TypeVar("_A")
_B = TypeVar("_B")

Progress = Callable[[int, int], None]
"""Called with pictures done and pictures in all."""


class Rows:
    """Some rows of arrays on disk, in some order: read when they are asked for.

    It stands in for an array as far as pictures are used as one: length, shape, type, and indexing by position.

    Args:
        parts: arrays of pictures of one shape, or other rows.
        index: positions in these, one part after the other.
    """

    def __init__(self, parts: Sequence[images.Pixels], index: npt.NDArray[np.integer[Any]]) -> None:
        self._parts, self._index = parts, index
        self._begins = np.cumsum([0, *map(len, parts)])
        self.shape = (len(index), *parts[0].shape[1:])
        self.dtype, self.ndim, self.size = parts[0].dtype, parts[0].ndim, math.prod(self.shape)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, place: Any) -> images.Pixels:
        rows = self._index[place]
        found = np.empty((*rows.shape, *self.shape[1:]), self.dtype)
        of_part = np.searchsorted(self._begins, rows, "right") - 1
        for number, part in enumerate(self._parts):
            here = of_part == number
            found[here] = part[rows[here] - self._begins[number]]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype)


@dataclass(frozen=True)
class Split:
    """Pictures: uint8 (N, H, W, 3) RGB, in memory or on disk. Labels: int64 (N,), indices into the class names."""

    images: images.Pixels
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: npt.NDArray[np.integer[Any]]) -> Split:
        """The pictures at those positions; where they are on disk, they stay there."""
        pictures = cast("images.Pixels", Rows([self.images], index)) if self._on_disk else self.images[index]
        return Split(pictures, self.labels[index])

    def joined(self, *others: Split) -> Split:
        """Its pictures and then those of others; where any are on disk, they stay there."""
        splits = (self, *others)
        arrays, labels = [split.images for split in splits], np.concatenate([split.labels for split in splits])
        if any(split._on_disk for split in splits):
            return Split(cast("images.Pixels", Rows(arrays, np.arange(len(labels)))), labels)
        return Split(np.concatenate(arrays), labels)

    @property
    def _on_disk(self) -> bool:
        return isinstance(self.images, np.memmap | Rows)


@dataclass(frozen=True)
class Item:
    """One picture of a folder or an archive: its split, its class, a name for messages, and how to get its bytes.

    A folder is one too, with nothing to read: so a class without pictures is noticed.
    """

    split: str
    label: str
    name: str
    read: Callable[[], bytes]
    is_picture: bool = True


@dataclass(frozen=True)
class Decoded:
    """All pictures of a source, before the validation split is held out; `labels` is empty where it names none."""

    labels: tuple[str, ...]
    splits: dict[str, Split]
    skipped: tuple[str, ...]


def decode(
    checksum: str,
    list_items: Callable[[], list[Item]],
    size: tuple[int, int] | None,
    fit: images.Fit,
    progress: Progress,
    where: str,
) -> Decoded:
    """Decode a source's pictures, or take them from the cache.

    Args:
        checksum: the source's; the cache's key.
        list_items: finds its pictures and folders; not called where the cache has them.
        size: height and width to bring pictures to; their own where None, see `training.data.load`.
        fit: how a picture of another shape takes that size.
        progress: called while pictures are decoded.
        where: what to call the source in an error.

    Raises:
        DataError: there are no pictures, none that can be read, or a class's folder has none.
    """
    shape = "own" if size is None else f"{size[0]}x{size[1]}"
    folder = cache_folder() / f"{checksum[:32]}-{shape}-{fit}-{_CACHE_FORMAT}"
    return _read_cache(folder) or _decode_all(list_items(), size, fit, progress, where, folder)


def cache_folder() -> Path:
    """Where decoded pictures are kept: `KERNELSCOPE_CACHE`, else `kernelscope` in the user's cache folder."""
    chosen = os.environ.get("KERNELSCOPE_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kernelscope"


def _decode_all(
    items: list[Item], size: tuple[int, int] | None, fit: images.Fit, progress: Progress, where: str, folder: Path
) -> Decoded:
    if not any(item.is_picture for item in items):
        kinds = " ".join(images.SUFFIXES)
        raise DataError(f"{where} holds no pictures in class folders: expected train/<class>/*.jpg (one of {kinds})")
    outside: list[str] = []
    if any(item.split == "train" for item in items):
        outside = [
            f"{item.name}: it is in no split's folder, and there is a train/: move its class in there"
            for item in items
            if item.is_picture and not item.split
        ]
        items = [item for item in items if item.split]
    else:  # no train/ folder: the class folders that stand at the top are for training
        items = [replace(item, split=item.split or "train") for item in items]
    items = _without_folders(items, where)
    labels = tuple(sorted({item.label for item in items}, key=lambda label: (label.lower(), label)))
    number = {label: index for index, label in enumerate(labels)}
    height, width = size or _own_size(items)
    skipped: list[str] = []

    def one(item: Item) -> images.Pixels | str:
        try:
            return images.read(item.read(), height, width, fit)
        except PictureError as error:
            return f"{item.name}: {error}"
        except OSError as error:  # a file that may not be read, a link to nowhere
            return f"{item.name}: {error.strerror or error}"

    def readable() -> Iterator[tuple[str, int, images.Pixels]]:
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
            _write_cache(folder, decoded)
    if not decoded.splits:
        raise DataError(f"none of the {len(items)} pictures in {where} can be read; the first: {skipped[0]}")
    return decoded


def _to_memory(
    readable: Iterator[tuple[str, int, images.Pixels]], labels: tuple[str, ...], skipped: list[str]
) -> Decoded:
    kept: dict[str, tuple[list[images.Pixels], list[int]]] = {}
    for split, number, pixels in readable:
        pictures, numbers = kept.setdefault(split, ([], []))
        pictures.append(pixels)
        numbers.append(number)
    splits = {name: Split(np.stack(x), np.array(y, np.int64)) for name, (x, y) in kept.items()}
    return Decoded(labels, splits, tuple(skipped))


def _to_disk(
    readable: Iterator[tuple[str, int, images.Pixels]],
    labels: tuple[str, ...],
    skipped: list[str],
    size: tuple[int, int],
    folder: Path,
) -> Decoded:
    """Write pictures to the cache one by one, and open them there.

    Raises:
        DataError: the cache cannot take them.
    """
    numbers: dict[str, list[int]] = {}
    try:
        with _staged(folder) as staged, ExitStack() as files:
            open_files: dict[str, Any] = {}
            for split, number, pixels in readable:
                if split not in open_files:
                    open_files[split] = files.enter_context((staged / f"{split}.pixels").open("wb"))
                open_files[split].write(pixels.tobytes())
                numbers.setdefault(split, []).append(number)
            files.close()
            _write_notes(staged, Decoded(labels, {}, tuple(skipped)), size, numbers)
    except OSError as error:
        raise DataError(
            f"the pictures are more than memory holds, and {folder.parent} cannot take them ({error.strerror}): give "
            "a smaller --size, or set KERNELSCOPE_CACHE to a folder on a larger disk"
        ) from None
    return _read_cache(folder) or Decoded(labels, {}, tuple(skipped))


def _without_folders(items: list[Item], where: str) -> list[Item]:
    """The pictures alone. Raises `DataError` for a class's folder that has none."""
    pictures = [item for item in items if item.is_picture]
    known = {(item.split, item.label) for item in pictures}
    above = {str(parent) for item in pictures for parent in PurePosixPath(item.name).parents}
    for item in items:
        if not item.is_picture and (item.split, item.label) not in known and item.name not in above:
            raise DataError(f"{where}: class {item.label!r} is empty ({item.name} has no pictures): fill or remove it")
    return pictures


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
    """The size of the first pictures where it is one and the same, else the median of their shorter sides, square."""
    sizes = []
    for item in items[:: max(1, len(items) // 200)]:
        try:
            with Image.open(BytesIO(item.read()), formats=images.FORMATS) as picture:
                sizes.append((picture.height, picture.width))
        except Exception:  # noqa: S112 -- an unreadable picture is counted and named when it is decoded, not here
            continue
    if len(set(sizes)) == 1 and max(sizes[0]) <= _LARGEST_SIDE:
        return sizes[0]
    side = min(_LARGEST_SIDE, int(statistics.median(min(pair) for pair in sizes))) if sizes else 32
    return side, side


def resized(decoded: Decoded, size: tuple[int, int], fit: images.Fit) -> Decoded:
    """The same pictures at another height and width."""

    def all_of(split: Split) -> Split:
        if split.images.shape[1:3] == size:
            return split
        return Split(np.stack([images.fit(Image.fromarray(x), *size, fit) for x in split.images]), split.labels)

    return replace(decoded, splits={name: all_of(split) for name, split in decoded.splits.items()})


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """A folder beside that one, which takes its place when the block ends well, and is gone when it does not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f"{_STAGED}*"):
        if time.time() - left.stat().st_mtime > _FORGOTTEN:
            shutil.rmtree(left, ignore_errors=True)
    staged = Path(tempfile.mkdtemp(prefix=_STAGED, dir=folder.parent))
    try:
        yield staged
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(staged, folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _write_notes(folder: Path, decoded: Decoded, size: tuple[int, int], labels: dict[str, list[int]]) -> None:
    for name, numbers in labels.items():
        np.array(numbers, np.int64).tofile(folder / f"{name}.labels")
    notes = {"labels": decoded.labels, "splits": list(labels), "skipped": decoded.skipped, "size": size}
    (folder / _NOTES).write_text(json.dumps(notes), encoding="utf-8")


def _read_cache(folder: Path) -> Decoded | None:
    try:
        notes = json.loads((folder / _NOTES).read_text(encoding="utf-8"))
        splits = {}
        whole = sum((folder / f"{name}.pixels").stat().st_size for name in notes["splits"])
        for name in notes["splits"]:
            labels = np.fromfile(folder / f"{name}.labels", np.int64)
            shape = (len(labels), *notes["size"], 3)
            mapped = np.memmap(folder / f"{name}.pixels", np.uint8, "r", shape=shape)
            if mapped.nbytes != (folder / f"{name}.pixels").stat().st_size:
                return None
            splits[name] = Split(mapped if whole > memory.limit() else np.array(mapped), labels)
        return Decoded(tuple(notes["labels"]), splits, tuple(notes["skipped"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent, or damaged: decoded anew and written over


def _write_cache(folder: Path, decoded: Decoded) -> None:
    size = next(iter(decoded.splits.values())).images.shape[1:3]
    try:
        with _staged(folder) as staged:
            for name, split in decoded.splits.items():
                split.images.tofile(staged / f"{name}.pixels")
            _write_notes(staged, decoded, size, {name: split.labels.tolist() for name, split in decoded.splits.items()})
    except OSError:
        return  # the cache only saves time: on a full or read-only disk the next run decodes again
