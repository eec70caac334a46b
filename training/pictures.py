"""Labelled pictures, decoded: many small files -> a few arrays, cached.

The cache is one array a split in `cache_folder()`, keyed by the source's checksum and the decoding's rules.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from contract import images
from contract.errors import DataError, PictureError

_LARGEST_SIDE: Final = 224
"""Pictures larger than this are shrunk to it unless a size is asked for."""
_CACHE_FORMAT: Final = 2

_A = TypeVar("_A")
_B = TypeVar("_B")

Progress = Callable[[int, int], None]
"""Called with pictures done and pictures in all."""


@dataclass(frozen=True)
class Split:
    """Pictures: uint8 (N, H, W, 3) RGB. Labels: int64 (N,), indices into the data's class names."""

    images: images.Pixels
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: npt.NDArray[np.integer[Any]]) -> Split:
        """The pictures at those positions."""
        return Split(self.images[index], self.labels[index])


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
    items: list[Item],
    size: tuple[int, int] | None,
    fit: images.Fit,
    progress: Progress,
    where: str,
) -> Decoded:
    """Decode a source's pictures, or take them from the cache.

    Args:
        checksum: the source's; the cache's key.
        items: its pictures and folders.
        size: height and width to bring pictures to; their own where None, see `training.data.load`.
        fit: how a picture of another shape takes that size.
        progress: called while pictures are decoded.
        where: what to call the source in an error.

    Raises:
        DataError: there are no pictures, none that can be read, or a class's folder has none.
    """
    if not any(item.is_picture for item in items):
        kinds = " ".join(images.SUFFIXES)
        raise DataError(f"{where} holds no pictures in class folders: expected train/<class>/*.jpg (one of {kinds})")
    shape = "own" if size is None else f"{size[0]}x{size[1]}"
    stem = cache_folder() / f"{checksum[:32]}-{shape}-{fit}-{_CACHE_FORMAT}"
    kept = _read_cache(stem)
    if kept is None:
        kept = _decode_all(items, size, fit, progress, where)
        _write_cache(stem, kept)
    return kept


def cache_folder() -> Path:
    """Where decoded pictures are kept: `KERNELSCOPE_CACHE`, else `kernelscope` in the user's cache folder."""
    chosen = os.environ.get("KERNELSCOPE_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kernelscope"


def _decode_all(
    items: list[Item], size: tuple[int, int] | None, fit: images.Fit, progress: Progress, where: str
) -> Decoded:
    if any(item.split == "train" for item in items):
        items = [item for item in items if item.split]
    else:  # no train/ folder: the class folders that stand at the top are for training
        items = [replace(item, split=item.split or "train") for item in items]
    items = _without_folders(items, where)
    labels = tuple(sorted({item.label for item in items}, key=lambda label: (label.lower(), label)))
    number = {label: index for index, label in enumerate(labels)}
    if size is None:
        size = _own_size(items)

    def one(item: Item) -> images.Pixels | str:
        try:
            return images.read(item.read(), *size, fit)
        except PictureError as error:
            return f"{item.name}: {error}"
        except OSError as error:  # a file that may not be read, a link to nowhere
            return f"{item.name}: {error.strerror or error}"

    kept: dict[str, tuple[list[images.Pixels], list[int]]] = {}
    skipped: list[str] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, (item, result) in enumerate(zip(items, _in_order(pool, one, items), strict=True), 1):
            if isinstance(result, str):
                skipped.append(result)
            else:
                pictures, numbers = kept.setdefault(item.split, ([], []))
                pictures.append(result)
                numbers.append(number[item.label])
            progress(done, len(items))
    if not kept:
        raise DataError(f"none of the {len(items)} pictures in {where} can be read; the first: {skipped[0]}")
    splits = {name: Split(np.stack(x), np.array(y, np.int64)) for name, (x, y) in kept.items()}
    return Decoded(labels, splits, tuple(skipped))


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
    sizes = set()
    for item in items[:: max(1, len(items) // 200)]:
        try:
            with Image.open(BytesIO(item.read()), formats=images.FORMATS) as picture:
                sizes.add((picture.height, picture.width))
        except Exception:  # noqa: S112 -- an unreadable picture is counted and named when it is decoded, not here
            continue
    if len(sizes) == 1 and max(max(pair) for pair in sizes) <= _LARGEST_SIDE:
        return next(iter(sizes))
    side = min(_LARGEST_SIDE, int(statistics.median(min(pair) for pair in sizes))) if sizes else 32
    return side, side


def resized(decoded: Decoded, size: tuple[int, int], fit: images.Fit) -> Decoded:
    """The same pictures at another height and width."""

    def all_of(split: Split) -> Split:
        if split.images.shape[1:3] == size:
            return split
        return Split(np.stack([images.fit(Image.fromarray(x), *size, fit) for x in split.images]), split.labels)

    return replace(decoded, splits={name: all_of(split) for name, split in decoded.splits.items()})


def _read_cache(stem: Path) -> Decoded | None:
    try:
        notes = json.loads(stem.with_name(stem.name + ".json").read_text(encoding="utf-8"))
        with np.load(stem.with_name(stem.name + ".npz"), allow_pickle=False) as file:
            splits = {name: Split(file[f"x_{name}"], file[f"y_{name}"]) for name in notes["splits"]}
        return Decoded(tuple(notes["labels"]), splits, tuple(notes["skipped"]))
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None  # absent, or damaged: decoded anew and written over


def _write_cache(stem: Path, decoded: Decoded) -> None:
    arrays = {
        f"{axis}_{name}": value
        for name, s in decoded.splits.items()
        for axis, value in (("x", s.images), ("y", s.labels))
    }
    notes = {"labels": decoded.labels, "splits": list(decoded.splits), "skipped": decoded.skipped}
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=stem.parent, delete=False) as file:
            try:
                np.savez(file, **arrays)  # type: ignore[arg-type]  # its flags come after ** in the stubs
                file.close()
                os.replace(file.name, stem.with_name(stem.name + ".npz"))
            finally:
                Path(file.name).unlink(missing_ok=True)
        stem.with_name(stem.name + ".json").write_text(json.dumps(notes), encoding="utf-8")
    except OSError:
        return  # the cache only saves time: on a full or read-only disk the next run decodes again
