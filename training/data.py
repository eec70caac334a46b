"""Labelled pictures from wherever they are, as arrays with a fixed split.

Four kinds of source: `cifar10` (Keras downloads it), an image folder, an archive of one, a NumPy file. An image folder
holds one folder a class, either at its top or below `train/`, with an optional `validation/` (or `val/`, `valid/`) and
`test/` beside it. Whatever the source, every picture goes through `contract.images`, as it will in service.

Decoded pictures are cached as one array in `cache_folder()`, keyed by the source's checksum and the decoding's rules.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import tarfile
import tempfile
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from contract import images
from contract.errors import DataError, PictureError, UsageError

VALIDATION_FRACTION: Final = 0.1
_SPLIT_SEED: Final = 20180521
"""The validation split is the same for every run on the same data, whatever the run's own seed."""
_LARGEST_SIDE: Final = 224
"""Pictures larger than this are shrunk to it unless a size is asked for."""
_CACHE_FORMAT: Final = 1
_SPLITS: Final = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
}
_ARCHIVES: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz")
CIFAR10: Final = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

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
class Dataset:
    """Labelled pictures, split.

    Attributes:
        name: a word for it, the default name of a model trained on it.
        labels: the class names, in the order of the indices.
        train, validation, test: the splits; `test` is None where the source has none.
        fit: how pictures took the shape they have.
        checksum: SHA-256 of the source (see `load`).
        skipped: pictures that could not be read, as `name: why`.
    """

    name: str
    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split | None
    fit: images.Fit
    checksum: str
    skipped: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.train.images.shape[1], self.train.images.shape[2]

    def describe(self) -> dict[str, Any]:
        """What a card says of the data."""
        return {
            "name": self.name,
            "checksum": f"sha256:{self.checksum}",
            "train": len(self.train),
            "validation": len(self.validation),
            "test": len(self.test) if self.test else 0,
            "skipped": len(self.skipped),
        }


@dataclass(frozen=True)
class _Item:
    """One picture of a folder or an archive: its split, its class, a name for messages, and how to get its bytes.

    A folder is one too, with nothing to read: so a class without pictures is noticed.
    """

    split: str
    label: str
    name: str
    read: Callable[[], bytes]
    is_picture: bool = True


@dataclass(frozen=True)
class _Decoded:
    """All pictures of a source, before the validation split is held out; `labels` is empty where it names none."""

    labels: tuple[str, ...]
    splits: dict[str, Split]
    skipped: tuple[str, ...]


def load(
    where: str,
    *,
    size: tuple[int, int] | None = None,
    fit: images.Fit = "crop",
    labels: tuple[str, ...] | None = None,
    validation_fraction: float = VALIDATION_FRACTION,
    progress: Progress = lambda done, total: None,
) -> Dataset:
    """Load labelled pictures.

    Args:
        where: `cifar10`, a folder, an archive (.zip, .tar, .tar.gz, .tar.xz ...) or a file .npz with `x_train` uint8
            (N, H, W, 3), `y_train` (N,), and optionally `x_validation`, `x_test`, ... and `labels`.
        size: height and width to bring pictures to; by default the pictures' own where they all have the same,
            else the median of their shorter sides, 224 at most.
        fit: how a picture of another shape takes that size.
        labels: the classes and their order, where they are given by a model; by default the sorted folder names.
        validation_fraction: how much of the training pictures of each class is held out, unless the source has a
            validation split of its own. The choice is fixed: the same data are always split the same way.
        progress: called while pictures are decoded.

    The checksum is that of the archive or file; for a folder, that of the names, sizes and contents in it.

    Raises:
        UsageError: there is no such source, or it is of no known kind.
        DataError: one class, an empty class, no readable picture, a path that climbs out of the archive, ...
    """
    path = Path(where)
    if where == "cifar10" and not path.exists():
        name, checksum, decoded = "cifar10", *_keras_cifar10()
        if size is not None:
            decoded = _resized(decoded, size, fit)
    elif not path.exists():
        raise UsageError(f"there are no data at {where!r}: give cifar10, a folder, an archive or a .npz file")
    elif path.suffix == ".npz":
        name, checksum, decoded = path.stem, _sha256(path), _from_npz(path)
        if size is not None:
            decoded = _resized(decoded, size, fit)
    else:
        name = path.resolve().name.split(".")[0]
        checksum, decoded = _from_pictures(path, size, fit, progress)
    return _split(name, checksum, _check(decoded, where, labels), fit, validation_fraction)


def choose(data: Dataset, name: str | None) -> tuple[str, Split]:
    """A split by its name: `train`, `validation`, `test` or `all`; by default `test` where there is one, else `all`.

    Raises:
        UsageError: the data have no such split.
    """
    name = name or ("test" if data.test else "all")
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    if name == "all":
        there = [split for split in splits.values() if split]
        return name, Split(np.concatenate([s.images for s in there]), np.concatenate([s.labels for s in there]))
    split = splits[name]
    if not split:
        raise UsageError(f"the data have no {name} split: choose one of {', '.join(n for n, s in splits.items() if s)}")
    return name, split


def cache_folder() -> Path:
    """Where decoded pictures are kept: `KERNELSCOPE_CACHE`, else `kernelscope` in the user's cache folder."""
    chosen = os.environ.get("KERNELSCOPE_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kernelscope"


# --- the sources ------------------------------------------------------------------------------------------------


def _keras_cifar10() -> tuple[str, _Decoded]:
    from keras.datasets import cifar10  # imported here: other sources need no Keras

    try:
        (x_train, y_train), (x_test, y_test) = cifar10.load_data()
    except Exception as error:  # whatever urllib, tarfile and pickle raise; the cause is in the message
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"CIFAR-10 could not be downloaded ({reason}): give a folder or an archive of it") from None
    splits = {
        "train": Split(x_train, y_train.reshape(-1).astype(np.int64)),
        "test": Split(x_test, y_test.reshape(-1).astype(np.int64)),
    }
    digest = hashlib.sha256()
    for split in splits.values():
        digest.update(split.images.tobytes())
        digest.update(split.labels.tobytes())
    return digest.hexdigest(), _Decoded(CIFAR10, splits, ())


def _from_npz(path: Path) -> _Decoded:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a NumPy archive: {error}") from None
    if "x_train" not in arrays:
        raise DataError(f"{path} has no x_train (it has {', '.join(arrays) or 'nothing'}): save x_train and y_train")
    splits = {}
    for key, x in arrays.items():
        split = _SPLITS.get(key.removeprefix("x_")) if key.startswith("x_") else None
        if split is None:
            continue
        y = arrays.get("y_" + key.removeprefix("x_"))
        if x.dtype != np.uint8 or x.ndim != 4 or x.shape[-1] != 3:
            raise DataError(f"{path}: {key} is {x.dtype} {x.shape}; it must be uint8 (N, height, width, 3)")
        if y is None or y.size != len(x) or not np.issubdtype(y.dtype, np.integer) or (y.size and y.min() < 0):
            raise DataError(f"{path}: {key.replace('x', 'y', 1)} must hold one whole number from 0 a picture")
        splits[split] = Split(x, y.reshape(-1).astype(np.int64))
    count = 1 + max(int(split.labels.max(initial=0)) for split in splits.values())
    labels = tuple(map(str, arrays["labels"])) if "labels" in arrays else ()
    if labels and len(labels) < count:
        raise DataError(f"{path}: labels names {len(labels)} classes, but y goes up to {count - 1}")
    return _Decoded(labels, splits, ())


def _from_pictures(
    path: Path, size: tuple[int, int] | None, fit: images.Fit, progress: Progress
) -> tuple[str, _Decoded]:
    if path.is_dir():
        items, checksum = list(_folder_items(path)), _folder_checksum(path)
        return checksum, _cached(checksum, items, size, fit, progress, str(path))
    if not path.name.lower().endswith(_ARCHIVES):
        raise UsageError(f"{path} is of no known kind: give a folder, one of {' '.join(_ARCHIVES)}, or a .npz file")
    checksum = _sha256(path)
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                return checksum, _cached(checksum, list(_zip_items(archive)), size, fit, progress, str(path))
        with tarfile.open(path) as tar:
            return checksum, _cached(checksum, list(_tar_items(tar)), size, fit, progress, str(path))
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path} cannot be read as an archive: {str(error).splitlines()[0]}") from None


def _folder_items(root: Path) -> Iterator[_Item]:
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        item = _folder(name) if path.is_dir() else _item(name, path.read_bytes)
        if item:
            yield item


def _zip_items(archive: zipfile.ZipFile) -> Iterator[_Item]:
    for entry in archive.infolist():
        _refuse_climbing(entry.filename)
        item = _folder(entry.filename) if entry.is_dir() else _item(entry.filename, partial(archive.read, entry))
        if item:
            yield item


def _tar_items(tar: tarfile.TarFile) -> Iterator[_Item]:
    # A compressed tar can only be read forwards at a bearable speed: the bytes are kept, in the archive's order.
    for member in tar:
        _refuse_climbing(member.name)
        file = tar.extractfile(member) if member.isfile() else None
        if file:
            item = _item(member.name, BytesIO(file.read()).getvalue)
        else:
            item = _folder(member.name) if member.isdir() else None  # links and devices are no pictures
        if item:
            yield item


def _refuse_climbing(name: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if ".." in parts or name.startswith(("/", "\\")) or (parts and parts[0].endswith(":")):
        raise DataError(f"the archive holds {name!r}, a path that climbs out of it: it was not read; pack it anew")


def _folder(name: str) -> _Item | None:
    item = _item(f"{name.rstrip('/')}/any{images.SUFFIXES[0]}", bytes)
    return replace(item, name=name.rstrip("/"), is_picture=False) if item else None


def _item(name: str, read: Callable[[], bytes]) -> _Item | None:
    """`[...]/train/<class>/[...]/picture.jpg`, or `[...]/<class>/picture.jpg` where there is no split's folder."""
    path = PurePosixPath(name)
    if path.suffix.lower() not in images.SUFFIXES or any(part.startswith((".", "__MACOSX")) for part in path.parts):
        return None
    folders = path.parts[:-1]
    for depth, folder in enumerate(folders[:-1]):
        if folder.lower() in _SPLITS:
            return _Item(_SPLITS[folder.lower()], folders[depth + 1], name, read)
    return _Item("", folders[-1], name, read) if folders else None


# --- decoding ---------------------------------------------------------------------------------------------------


def _cached(
    checksum: str,
    items: list[_Item],
    size: tuple[int, int] | None,
    fit: images.Fit,
    progress: Progress,
    where: str,
) -> _Decoded:
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


def _decode_all(
    items: list[_Item], size: tuple[int, int] | None, fit: images.Fit, progress: Progress, where: str
) -> _Decoded:
    if any(item.split == "train" for item in items):
        items = [item for item in items if item.split]
    elif not any(
        item.split for item in items
    ):  # no train/ folder: the class folders stand at the top, and all is for training
        items = [replace(item, split=item.split or "train") for item in items]
    items = _without_folders(items, where)
    labels = tuple(sorted({item.label for item in items}, key=lambda label: (label.lower(), label)))
    number = {label: index for index, label in enumerate(labels)}
    if size is None:
        size = _own_size(items)

    def one(item: _Item) -> images.Pixels | str:
        try:
            return images.read(item.read(), *size, fit)
        except PictureError as error:
            return f"{item.name}: {error}"

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
    return _Decoded(labels, splits, tuple(skipped))


def _without_folders(items: list[_Item], where: str) -> list[_Item]:
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


def _own_size(items: list[_Item]) -> tuple[int, int]:
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


def _resized(decoded: _Decoded, size: tuple[int, int], fit: images.Fit) -> _Decoded:
    def all_of(split: Split) -> Split:
        if split.images.shape[1:3] == size:
            return split
        return Split(np.stack([images.fit(Image.fromarray(x), *size, fit) for x in split.images]), split.labels)

    return replace(decoded, splits={name: all_of(split) for name, split in decoded.splits.items()})


# --- checks and the split ---------------------------------------------------------------------------------------


def _check(decoded: _Decoded, where: str, labels: tuple[str, ...] | None) -> _Decoded:
    if not decoded.labels:
        count = 1 + max(int(split.labels.max(initial=0)) for split in decoded.splits.values())
        if labels is not None and count > len(labels):
            raise DataError(f"{where} has {count} classes, the model {len(labels)}")
        decoded = replace(decoded, labels=labels or tuple(f"class {index}" for index in range(count)))
    if labels is not None:
        unknown = sorted(set(decoded.labels) - set(labels))
        if unknown:
            raise DataError(f"{where} has classes that the model does not know: {', '.join(unknown[:5])}")
        order = np.array([labels.index(label) for label in decoded.labels])
        splits = {name: Split(split.images, order[split.labels]) for name, split in decoded.splits.items()}
        return replace(decoded, labels=labels, splits=splits)
    if len(decoded.labels) < 2:
        raise DataError(f"{where} has one class only, {decoded.labels[0]!r}: two or more are needed to tell apart")
    if "train" not in decoded.splits:
        raise DataError(f"{where} has no training pictures: expected train/<class>/*.jpg, or x_train in a .npz file")
    counts = np.bincount(decoded.splits["train"].labels, minlength=len(decoded.labels))
    for label, count in zip(decoded.labels, counts, strict=True):
        if count < 2:
            raise DataError(f"{where}: class {label!r} has {count} readable training pictures; it needs two or more")
    return decoded


def _split(name: str, checksum: str, decoded: _Decoded, fit: images.Fit, fraction: float) -> Dataset:
    if not 0 < fraction < 1:
        raise UsageError(f"the validation fraction is {fraction}; it must lie between 0 and 1")
    splits = decoded.splits
    if "train" not in splits:  # an archive with test/ alone can be evaluated on
        empty = next(iter(splits.values())).take(np.arange(0))
        splits = {"train": empty, "validation": empty, **splits}
    if "validation" not in splits:
        train = splits["train"]
        held = _held_out(train.labels, fraction)
        splits = {**splits, "train": train.take(np.flatnonzero(~held)), "validation": train.take(np.flatnonzero(held))}
    return Dataset(
        name=name,
        labels=decoded.labels,
        train=splits["train"],
        validation=splits["validation"],
        test=splits.get("test"),
        fit=fit,
        checksum=checksum,
        skipped=decoded.skipped,
    )


def _held_out(labels: npt.NDArray[np.int64], fraction: float) -> npt.NDArray[np.bool_]:
    """Which pictures are held out: the same share of each class, one at least and never all."""
    rng = np.random.default_rng(_SPLIT_SEED)
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_class = rng.permutation(np.flatnonzero(labels == label))
        count = min(max(1, round(len(of_class) * fraction)), len(of_class) - 1)
        held[of_class[:count]] = True
    return held


# --- checksums and the cache ------------------------------------------------------------------------------------


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder_checksum(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(root).as_posix()}\0{_sha256(path)}\n".encode())
    return digest.hexdigest()


def _read_cache(stem: Path) -> _Decoded | None:
    try:
        notes = json.loads(stem.with_name(stem.name + ".json").read_text(encoding="utf-8"))
        with np.load(stem.with_name(stem.name + ".npz"), allow_pickle=False) as file:
            splits = {name: Split(file[f"x_{name}"], file[f"y_{name}"]) for name in notes["splits"]}
        return _Decoded(tuple(notes["labels"]), splits, tuple(notes["skipped"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None  # absent, or damaged: decoded anew and written over


def _write_cache(stem: Path, decoded: _Decoded) -> None:
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
