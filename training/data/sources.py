"""Where labelled images come from: Keras' CIFAR-10, a NumPy file, a folder, an archive of one."""

from __future__ import annotations

import errno
import hashlib
import lzma
import os
import shutil
import struct
import tarfile
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Final

import numpy as np

from contract import files, formats, preprocessing
from contract.errors import DataError, UsageError
from training.data import cache
from training.data.decode import Item, Progress, decode
from training.data.split import Decoded, Split

_SPLITS: Final = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
}
_ARCHIVES: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".txz")
_MOST_CLASSES: Final = 100_000
_DAMAGED: Final = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    IndexError,
    NotImplementedError,
    UnicodeDecodeError,
)
"""What Python's own readers raise where an archive's bytes are not what they should be."""
CIFAR10: Final = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def keras_cifar10() -> tuple[str, Decoded]:
    """CIFAR-10 as Keras downloads it, and its checksum. Raises `DataError` where it cannot."""
    from keras.datasets import cifar10  # imported here: other sources need no Keras

    try:
        (x_train, y_train), (x_test, y_test) = cifar10.load_data()
    except Exception as error:  # whatever urllib, tarfile and pickle raise; the cause is in the message
        raise DataError(
            f"CIFAR-10 could not be downloaded ({_reason(error)}): give a folder or an archive of it"
        ) from None
    splits = {
        "train": Split(x_train, y_train.reshape(-1).astype(np.int64)),
        "test": Split(x_test, y_test.reshape(-1).astype(np.int64)),
    }
    digest = hashlib.sha256()
    for split in splits.values():
        digest.update(split.images.tobytes())
        digest.update(split.targets.tobytes())
    return digest.hexdigest(), Decoded(CIFAR10, splits, ())


def from_npz(path: Path) -> Decoded:
    """What `training.data.load` says of a file .npz. Raises `DataError`."""
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise DataError(f"{path} holds one array: save x_train and y_train with numpy.savez")
        with file:
            arrays = {key: file[key] for key in file.files}
    except (*_DAMAGED, ValueError, SyntaxError, tokenize.TokenError, MemoryError, OSError) as error:
        why = "it holds Python objects" if "pickle" in str(error) else _reason(error)
        raise DataError(f"{path} is not a NumPy archive of numbers: {why}") from None
    if "x_train" not in arrays:
        raise DataError(f"{path} has no x_train (it has {', '.join(arrays) or 'nothing'}): save x_train and y_train")
    splits = {}
    for key, x in arrays.items():
        split = _SPLITS.get(key.removeprefix("x_")) if key.startswith("x_") else None
        if split is None:
            continue
        y = arrays.get("y_" + key.removeprefix("x_"))
        if x.dtype != np.uint8 or x.ndim != 4 or x.shape[-1] != 3 or not x.size:
            raise DataError(f"{path}: {key} is {x.dtype} {x.shape}; it must be uint8 (N, height, width, 3)")
        if y is None or y.size != len(x) or not np.issubdtype(y.dtype, np.integer) or (y.size and y.min() < 0):
            raise DataError(f"{path}: {key.replace('x', 'y', 1)} must hold one whole number from 0 an image")
        if int(y.max()) >= _MOST_CLASSES:
            raise DataError(f"{path}: {key.replace('x', 'y', 1)} goes up to {y.max()}: number the classes from 0")
        splits[split] = Split(x, y.reshape(-1).astype(np.int64))
    count = 1 + max(int(split.targets.max(initial=0)) for split in splits.values())
    labels = tuple(map(str, np.atleast_1d(arrays["labels"]).ravel())) if "labels" in arrays else ()
    if labels and len(labels) < count:
        raise DataError(f"{path}: labels names {len(labels)} classes, but y goes up to {count - 1}")
    return Decoded(labels, splits, ())


def from_images(
    path: Path, size: tuple[int, int] | None, resize_mode: preprocessing.ResizeMode, progress: Progress
) -> tuple[str, Decoded]:
    """An image folder, or an archive of one, and its checksum. Raises `UsageError` and `DataError`."""
    if path.is_dir():
        checksum = _folder_checksum(path)
        return checksum, decode(checksum, lambda: list(_folder_items(path)), size, resize_mode, progress, str(path))
    if not path.name.lower().endswith(_ARCHIVES):
        raise UsageError(f"{path} is of no known kind: give a folder, one of {' '.join(_ARCHIVES)}, or a .npz file")
    checksum = sha256(path)
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                return checksum, decode(
                    checksum, lambda: list(_zip_items(archive)), size, resize_mode, progress, str(path)
                )
        with tarfile.open(path, tarinfo=_Member) as tar, _spool() as spool:
            return checksum, decode(
                checksum, lambda: list(_tar_items(tar, spool)), size, resize_mode, progress, str(path)
            )
    except (*_DAMAGED, OSError) as error:
        raise DataError(f"{path} cannot be read as an archive: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


class _Member(tarfile.TarInfo):
    """A tar's member; where its header is damaged, that is an error, and not, as by itself, the archive's end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> _Member:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the blocks that end an archive
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"it is cut short or damaged ({error})") from None


def _folder_items(root: Path) -> Iterator[Item]:
    for path in files.below(root):
        name = path.relative_to(root).as_posix()
        item = None
        if path.is_dir():
            item = _folder(name)
        elif path.is_file() or path.is_symlink():  # a link to nowhere is named when it is read; pipes are passed over
            item = _item(name, partial(files.contents, path))
        if item:
            yield item


def _zip_items(archive: zipfile.ZipFile) -> Iterator[Item]:
    for entry in archive.infolist():
        name = entry.filename.replace("\\", "/")
        _refuse_climbing(name)
        item = _folder(name) if entry.is_dir() else _item(name, partial(_from_zip, archive, entry))
        if item:
            yield item


def _from_zip(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(entry)
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or of a kind that Python does not unpack
        raise OSError(errno.EINVAL, str(error)) from None


def _spool() -> IO[bytes]:
    """A file that is gone once it is closed; beside the cache, where there is room for images, if that can be."""
    folder = cache.home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(buffering=0, dir=folder)
    except OSError:
        return tempfile.TemporaryFile(buffering=0)


def _tar_items(tar: tarfile.TarFile, spool: IO[bytes]) -> Iterator[Item]:
    # A compressed tar can only be read forwards at a bearable speed: its files are laid down, in the archive's order.
    for member in tar:
        _refuse_climbing(member.name)
        item = None  # links and devices are no images
        if member.isdir():
            item = _folder(member.name)
        elif member.isfile():
            item = _item(member.name, partial(os.pread, spool.fileno(), member.size, spool.tell()))
            file = tar.extractfile(member) if item else None
            if file:
                shutil.copyfileobj(file, spool)
        if item:
            yield item


def _refuse_climbing(name: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if ".." in parts or name.startswith(("/", "\\")) or (parts and parts[0].endswith(":")):
        raise DataError(f"the archive holds {name!r}, a path that climbs out of it: it was not read; pack it anew")


def _folder(name: str) -> Item | None:
    item = _item(f"{name.rstrip('/')}/any{formats.SUFFIXES[0]}", bytes)
    return replace(item, name=name.rstrip("/"), is_image=False) if item else None


def _item(name: str, read: Callable[[], bytes]) -> Item | None:
    """`[...]/train/<class>/[...]/image.jpg`, or `[...]/<class>/image.jpg` where there is no split's folder."""
    path = PurePosixPath(name)
    if path.suffix.lower() not in formats.SUFFIXES or any(part.startswith((".", "__MACOSX")) for part in path.parts):
        return None
    folders = path.parts[:-1]
    for depth, folder in enumerate(folders[:-1]):
        if folder.lower() in _SPLITS:
            return Item(_SPLITS[folder.lower()], folders[depth + 1], name, read)
    return Item("", folders[-1], name, read) if folders else None


def sha256(path: Path) -> str:
    """A file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder_checksum(root: Path) -> str:
    digest = hashlib.sha256()
    for path in files.below(root):
        if path.is_file():
            digest.update(os.fsencode(f"{path.relative_to(root).as_posix()}\0{sha256(path)}\n"))
    return digest.hexdigest()
