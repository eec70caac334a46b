"""Labelled images that are arrays already: CIFAR-10 from Keras, and NumPy files as people save them."""

from __future__ import annotations

import hashlib
import tokenize
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from contract.errors import DataError
from contract.preprocessing import Pixels
from training.data import archives, duplicates, sources
from training.data.duplicates import Copy
from training.data.names import canonical, is_number, natural, split_of
from training.data.problems import Problem, named
from training.data.split import Decoded, Split

CIFAR10: Final = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_IMAGES: Final = ("x", "images", "image", "data")
_TARGETS: Final = ("y", "labels", "label", "targets", "target")
_NAMES: Final = ("labels", "label_names", "class_names", "classes", "names")
_MOST_CLASSES: Final = 100_000
_EXPECTED: Final = "save x_train and y_train with numpy.savez"

Array = npt.NDArray[Any]


def keras_cifar10() -> Decoded:
    """CIFAR-10 as Keras downloads it. Raises `DataError` where it cannot."""
    from keras.datasets import cifar10  # imported here: other sources need no Keras

    try:
        (x_train, y_train), (x_test, y_test) = cifar10.load_data()
    except Exception as error:  # whatever urllib, tarfile and pickle raise; the cause is in the message
        raise DataError(
            f"CIFAR-10 could not be downloaded ({archives.reason(error)}): give a folder or an archive of it"
        ) from None
    splits = {
        "train": Split(x_train, y_train.reshape(-1).astype(np.int64)),
        "test": Split(x_test, y_test.reshape(-1).astype(np.int64)),
    }
    digest = hashlib.sha256()
    for split in splits.values():
        digest.update(split.images.tobytes())
        digest.update(split.targets.tobytes())
    return Decoded(CIFAR10, splits, digest.hexdigest())


def from_npz(path: Path, labels: tuple[str, ...] | None = None) -> Decoded:
    """Labelled images of a file .npz.

    Images are `x_train` (also `X_train`, `train_images`, ...), uint8 or whole numbers of 0 to 255, of shape
    (N, height, width, 3), (N, height, width, 1) or (N, height, width). Their classes are `y_train` (`train_labels`,
    ...): whole numbers, text, or one column a class that is 1 (one-hot). Names of numbered classes are `labels`
    (`class_names`, ...); without these they are called by their numbers.

    Args:
        path: the file.
        labels: the classes of a model that the images are for: numbers are their positions, unless they are numbers
            themselves.

    Raises:
        DataError: it has no such arrays, or these do not fit together.
    """
    arrays = _arrays(path)
    pairs = _pairs(arrays, path)
    used = {key for pair in pairs.values() for key in pair}
    names = next((arrays[key] for key in _NAMES if key in arrays and key not in used), None)
    raw = {split: _targets(arrays[y], y, len(arrays[x]), path) for split, (x, y) in pairs.items()}
    index, called, problems = _classes(raw, None if names is None else _texts(names), labels, path)
    splits, copies, digest = {}, list[Copy](), hashlib.sha256()
    for split, (x, _) in pairs.items():
        images = _images(arrays[x], x, path)
        targets = np.array([index[value] for value in raw[split].tolist()], np.int64)
        splits[split] = Split(images, targets)
        digests = [hashlib.sha256(image.tobytes()) for image in images]
        for at, (target, image_digest) in enumerate(zip(targets, digests, strict=True)):
            digest.update(f"{split} {images.shape[1:]} {called[target]} {image_digest.hexdigest()}\n".encode())
            copies.append(Copy(f"{x}[{at}]", split, called[target], image_digest.hexdigest()))
    return Decoded(
        labels=called,
        splits=splits,
        checksum=digest.hexdigest(),
        file_checksum=sources.sha256(path),
        notes=(
            *(f"{x} and {y} are taken as the {split} split" for split, (x, y) in pairs.items()),
            *_numbering(index, called, is_named=names is not None),
        ),
        problems=(*problems, *duplicates.find(copies)),
        first_copies=duplicates.first_copies([copy.digest for copy in copies if copy.split == "train"]),
    )


def _arrays(path: Path) -> dict[str, Array]:
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise DataError(f"{path} holds one array: {_EXPECTED}")
        with file:
            return {key: file[key] for key in file.files}
    except (*archives.DAMAGED, ValueError, SyntaxError, tokenize.TokenError, MemoryError, OSError) as error:
        why = "it holds Python objects: save labels as text, with astype(str)" if "pickle" in str(error) else None
        raise DataError(f"{path} is not a NumPy archive of numbers: {why or archives.reason(error)}") from None


def _pairs(arrays: Mapping[str, Array], path: Path) -> dict[str, tuple[str, str]]:
    """By split, the names of the arrays of its images and targets."""
    by_classes: dict[tuple[str, str], list[str]] = {}
    for key in arrays:
        word = key.lower()
        for part, names in (("x", _IMAGES), ("y", _TARGETS)):
            said = {_split_in(word, name) for name in names} - {None}
            if said:
                by_classes.setdefault((said.pop() or "test", part), []).append(key)
    pairs = {}
    for (split, part), images in by_classes.items():
        if part != "x":
            continue
        targets = by_classes.get((split, "y"), [])
        if len(targets) > 1:  # beside these, `labels` names the classes
            targets = [key for key in targets if key.lower() not in _NAMES]
        if len(images) > 1 or len(targets) > 1:
            raise DataError(
                f"{path}: {' and '.join((*images, *targets))} may all be of the {split} split: keep one pair"
            )
        if not targets:
            wanted = images[0].replace("x", "y", 1) if images[0].startswith("x") else f"the labels of {images[0]}"
            raise DataError(f"{path}: {wanted} must hold one whole number from 0, or one name, an image")
        pairs[split] = (images[0], targets[0])
    if not pairs:
        raise DataError(f"{path} has no x_train (it has {', '.join(arrays) or 'nothing'}): {_EXPECTED}")
    return pairs


def _split_in(word: str, name: str) -> str | None:
    """The split of an array that is called so, where it is one of `name`: x, x_train, train_x."""
    if word == name:
        return "train"
    if word.startswith(f"{name}_"):
        return split_of(word.removeprefix(f"{name}_"))
    return split_of(word.removesuffix(f"_{name}")) if word.endswith(f"_{name}") else None


def _images(x: Array, key: str, path: Path) -> Pixels:
    """As uint8 (N, height, width, 3)."""
    shape = f"{path}: {key} is {x.dtype} {x.shape}; it must be uint8 (N, height, width, 3)"
    if x.ndim == 4 and x.shape[1] in {1, 3} and x.shape[-1] not in {1, 3}:
        raise DataError(f"{shape}: put the channels last with transpose(0, 2, 3, 1)")
    if not x.size or x.ndim not in {3, 4} or (x.ndim == 4 and x.shape[-1] not in {1, 3}):
        raise DataError(shape)
    if np.issubdtype(x.dtype, np.floating):
        raise DataError(f"{shape}: where its values go up to 1, multiply them by 255 first")
    if x.dtype != np.uint8:
        if not np.issubdtype(x.dtype, np.integer) or x.min() < 0 or x.max() > 255:
            raise DataError(shape)
        x = x.astype(np.uint8)
    if x.ndim == 3:
        x = x[..., None]
    return x if x.shape[-1] == 3 else np.repeat(x, 3, axis=-1)


def _targets(y: Array, key: str, count: int, path: Path) -> Array:
    """One number or name an image."""
    wrong = DataError(f"{path}: {key} must hold one whole number from 0, or one name, an image")
    if y.ndim == 2 and y.shape[0] == count and y.shape[1] > 1:
        is_one_hot = y.dtype.kind in "biuf" and bool((np.isin(y, (0, 1)).all(1) & (y.sum(1) == 1)).all())
        if not is_one_hot:
            raise DataError(
                f"{path}: {key} has {y.shape[1]} columns, but is not one-hot: each row must hold a single 1"
            )
        return np.asarray(y.argmax(1))
    if y.size != count or not count:
        raise wrong
    y = y.reshape(-1)
    if y.dtype.kind in "US":
        return _texts(y)
    if y.dtype.kind == "f" and bool((y == np.floor(y)).all()):
        y = y.astype(np.int64)
    if y.dtype.kind == "b":
        y = y.astype(np.int64)
    if y.dtype.kind not in "iu" or y.min() < 0:
        raise wrong
    if int(y.max()) >= _MOST_CLASSES:
        raise DataError(f"{path}: {key} goes up to {y.max()}: number the classes from 0")
    return y.astype(np.int64)


def _texts(values: Array) -> Array:
    values = np.atleast_1d(values).ravel()
    texts = np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values.astype(str)
    return np.array([canonical(str(text)) for text in texts])


def _classes(
    raw: Mapping[str, Array], names: Array | None, labels: tuple[str, ...] | None, path: Path
) -> tuple[dict[Any, int], tuple[str, ...], list[Problem]]:
    """The class index of each value of `raw`, the names of these classes, and which others have no images."""
    values = sorted({value for targets in raw.values() for value in targets.tolist()}, key=lambda v: natural(str(v)))
    if len({type(value) for value in values}) > 1:
        raise DataError(f"{path}: the classes are numbers in one split and names in another")
    if isinstance(values[0], str):
        called = tuple(values)
    elif names is not None:
        if values[-1] >= len(names):
            raise DataError(f"{path}: labels names {len(names)} classes, but y goes up to {values[-1]}")
        called = tuple(str(names[value]) for value in values)
    else:
        called = tuple(_called(value, labels, path) for value in values)
    if len(set(called)) < len(called):
        twice = next(name for name in called if called.count(name) > 1)
        raise DataError(f"{path}: {twice!r} cannot name a class: names must differ, and be text")
    empty = [] if names is None else [str(name) for name in names if str(name) not in called]
    text = f"classes without images are left out: {named(empty)}"
    problems = [Problem("empty_class", text, tuple(empty))] if empty else []
    return {value: index for index, value in enumerate(values)}, called, problems


def _numbering(index: Mapping[Any, int], called: tuple[str, ...], *, is_named: bool) -> list[str]:
    """Which classes numbers were taken for, where only the model says it."""
    if is_named or all(str(value) == called[at] for value, at in index.items()):
        return []
    pairs = [f"{value} is {called[at]!r}" for value, at in index.items()]
    return [f"numbers are taken for the model's classes in their order: {named(pairs)}"]


def _called(value: int, labels: tuple[str, ...] | None, path: Path) -> str:
    """The class that a number stands for: the one of that name where a model's are called so, else the one there."""
    if not labels:
        return str(value)
    numbers = [is_number(label) for label in labels]
    if all(numbers):
        return next((label for label in labels if int(label) == value), str(value))
    if any(numbers):
        raise DataError(
            f"{path} numbers its classes, and some of the model's are called by numbers: add `labels` to it"
        )
    if value >= len(labels):
        raise DataError(f"{path} numbers its classes up to {value}, the model has {len(labels)}")
    return labels[value]
