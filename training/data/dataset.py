"""Labelled images from wherever they are, as arrays with a fixed split.

Sources: `cifar10` (Keras downloads it), an image folder, an archive of one, a table of labels (.csv) beside images, a
NumPy file. `training.data.layout` says which folders are classes and splits. Whatever the source, every image goes
through `contract.preprocessing`, as it will in service.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from contract import preprocessing
from contract.card import Card, Data
from contract.errors import DataError, UsageError
from training.data import arrays, folders
from training.data.decode import Progress, Size, resized
from training.data.split import Decoded, Split
from training.data.summary import Summary, faulty_name, summarise

VALIDATION_FRACTION: Final = 0.1
LEAST_FOR_TEST: Final = 20
"""Where each class has so many training images and there is no test split, a part of them is kept for testing."""
_SKIPPED: Final = ("unreadable", "no_class", "outside_splits")
_SPLIT_SEED: Final = 20180521
"""The validation split is the same for every run on the same data, whatever the run's own seed."""


@dataclass(frozen=True)
class Dataset:
    """Labelled images, split.

    Attributes:
        name: a word for it, the default name of a model trained on it.
        labels: the class names, in the order of the indices.
        train, validation, test: the splits; `test` is None where the source has none and too few images for one.
        resize_mode: how images took the shape they have.
        checksum: SHA-256 of what is used (see `load`).
        held_out: the shares of the training images that became the validation and the test split; 0 for a split that
            the source has itself, or that there is not.
        file_checksum: SHA-256 of the file that the images are from; empty for a folder.
        summary: what the source has, and what is wrong with it; None where the images are from nowhere.
    """

    name: str
    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split | None
    resize_mode: preprocessing.ResizeMode
    checksum: str
    held_out: tuple[float, float] = (0.0, 0.0)
    file_checksum: str = ""
    summary: Summary | None = None

    @property
    def skipped(self) -> int:
        """How many images were left out: unreadable, in no class, or beside the splits."""
        problems = self.summary.problems if self.summary else ()
        return sum(len(problem.files) for problem in problems if problem.kind in _SKIPPED)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.train.images.shape[1], self.train.images.shape[2]

    def describe(self) -> Data:
        """The data as a card describes them."""
        return Data(
            name=self.name,
            checksum=f"sha256:{self.checksum}",
            train=len(self.train),
            validation=len(self.validation),
            test=len(self.test) if self.test else 0,
            held_out=self.held_out,
            skipped=self.skipped,
        )


def load(
    where: str,
    *,
    size: Size = None,
    resize_mode: preprocessing.ResizeMode = "crop",
    labels: tuple[str, ...] | None = None,
    validation_fraction: float = VALIDATION_FRACTION,
    test_fraction: float | None = None,
    progress: Progress = lambda done, total: None,
) -> Dataset:
    """Load labelled images.

    Args:
        where: `cifar10`, a folder, an archive (.zip, .tar, .tar.gz, .tar.xz ...), a table of labels (.csv), or a file
            .npz (see `training.data.arrays.from_npz`).
        size: height and width to bring images to, or a function that tells these from the images' own; by default the
            images' own where they all have the same, else the median of their shorter sides, 224 at most.
        resize_mode: how an image of another shape takes that size.
        labels: the classes and their order, where they are given by a model; by default the folder names, 2 before 10.
        validation_fraction: how much of the training images of each class is held out, unless the source has a
            validation split of its own. The choice is fixed: the same data are always split the same way.
        test_fraction: the same for a test split, so that what is reported is not from images that choices were made
            by; as large as `validation_fraction` where None, if each class has `LEAST_FOR_TEST` images.
        progress: called while images are decoded.

    The checksum is that of the images that are used, with their splits, classes and names: alike for a folder and an
    archive of it, whatever stands beside them.

    Raises:
        UsageError: there is no such source, or it is of no known kind.
        DataError: folders that can be read in more than one way, one class, no readable image, a path that climbs out
            of the archive, ...
    """
    name, decoded = read(where, size=size, resize_mode=resize_mode, labels=labels, progress=progress)
    summary = summarise(name, decoded)
    if labels is None:
        _check(summary, where)
    data = _split(name, decoded, resize_mode, validation_fraction, test_fraction)
    data = replace(data, summary=summary)
    return data if labels is None else _relabelled(data, where, labels)


def read(
    where: str,
    *,
    size: Size = None,
    resize_mode: preprocessing.ResizeMode = "crop",
    labels: tuple[str, ...] | None = None,
    progress: Progress = lambda done, total: None,
) -> tuple[str, Decoded]:
    """All images of a source as it has them, and a name for it; arguments and errors are those of `load`."""
    path = Path(where)
    name = Path(os.path.abspath(path)).name.split(".")[0]
    if where == "cifar10" and not path.exists():
        name, decoded = "cifar10", resized(arrays.keras_cifar10(), size, resize_mode)
    elif not path.exists():
        raise UsageError(f"there are no data at {where!r}: give cifar10, a folder, an archive, a .npz or a .csv file")
    elif path.suffix == ".npz" and path.is_file():
        decoded = resized(arrays.from_npz(path, labels), size, resize_mode)
    else:
        decoded = folders.load(path, size, resize_mode, progress)
    fault = faulty_name(decoded.labels)
    if fault:
        raise DataError(f"{where}: {fault}")
    return name.encode(errors="replace").decode(), decoded  # it is for the card; names of files are any bytes


def load_for(
    card: Card, where: str, progress: Progress = lambda done, total: None, *, split_as: Card | None = None
) -> Dataset:
    """Load labelled images as a bundle takes them and, where it was trained on them, as they were split for that.

    Args:
        card: the bundle's.
        where: see `load`; raises what that raises.
        progress: called while images are decoded.
        split_as: the card of another bundle, as for which they are split.
    """
    data = (split_as or card).data
    held, rest = data.validation or 0, data.train or 0
    # cards did not always have the fractions; then no test split was held out
    by_count = held / (held + rest) if held and rest else VALIDATION_FRACTION
    validation, test = data.held_out or (by_count, 0.0)
    return load(
        where,
        size=(card.height, card.width),
        resize_mode=card.resize_mode,
        labels=card.labels,
        validation_fraction=validation or VALIDATION_FRACTION,
        test_fraction=test,
        progress=progress,
    )


def choose(data: Dataset, name: str | None, card: Card) -> tuple[str, Split]:
    """A split by its name: `train`, `validation`, `test` or `all`.

    By default `test` where the source has one, or the card's bundle kept one of these data out of its training; else,
    of data that it was trained on, `validation`, and of other data all images.

    Raises:
        UsageError: the data have no such split.
    """
    if name is None:
        own = trained_on(card, data)
        tests = data.test and (own or not data.held_out[1])  # of other data no part is better than the rest
        name = "test" if tests else "validation" if own else "all"
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    if name == "all":
        first, *others = (split for split in splits.values() if split)
        return name, first.joined(*others)
    split = splits[name]
    if not split:
        raise UsageError(f"the data have no {name} split: choose one of {', '.join(n for n, s in splits.items() if s)}")
    return name, split


def trained_on(card: Card, data: Dataset) -> bool:
    """Whether these are the data that a card's bundle was trained on."""
    checksums = {data.checksum, data.file_checksum or data.checksum}  # older cards have that of the file
    return card.data.checksum in {f"sha256:{checksum}" for checksum in checksums}


def _relabelled(data: Dataset, where: str, labels: tuple[str, ...]) -> Dataset:
    """With a model's classes in their order. After the split: which images are held out must not hang on it."""
    unknown = sorted(set(data.labels) - set(labels))
    if unknown:
        raise DataError(f"{where} has classes that the model does not know: {', '.join(unknown[:5])}")
    order = np.array([labels.index(label) for label in data.labels])

    def turned(split: Split) -> Split:
        return replace(split, targets=order[split.targets])

    test = turned(data.test) if data.test else None
    return replace(data, labels=labels, train=turned(data.train), validation=turned(data.validation), test=test)


def _check(summary: Summary, where: str) -> None:
    """Raise `DataError` where there is nothing to be learnt."""
    problem = summary.fatal()
    if problem:
        raise DataError(f"{where}: {problem.message}")


def _split(
    name: str,
    decoded: Decoded,
    resize_mode: preprocessing.ResizeMode,
    fraction: float,
    test_fraction: float | None,
) -> Dataset:
    if not 0 < fraction < 1:
        raise UsageError(f"the validation fraction is {fraction}; it must lie between 0 and 1")
    splits = decoded.splits
    if "train" not in splits:  # an archive with test/ alone can be evaluated on
        empty = next(iter(splits.values())).take(np.arange(0))
        splits = {"train": empty, "validation": empty, **splits}
    train = splits["train"]
    if test_fraction is None:
        counts = np.bincount(train.targets, minlength=len(decoded.labels))
        test_fraction = fraction if counts.min() >= LEAST_FOR_TEST else 0.0
    validates, tests = "validation" in splits, "test" in splits or not len(train)
    shares = (0.0 if validates else fraction, 0.0 if tests else test_fraction)
    if any(shares):
        kept, validation, test = _held_out(train.targets, *shares, decoded.first_copies)
        splits = {"validation": train.take(validation), "test": train.take(test), **splits, "train": train.take(kept)}
    return Dataset(
        name=name,
        labels=decoded.labels,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"] if len(splits.get("test", ())) else None,
        resize_mode=resize_mode,
        checksum=decoded.checksum,
        held_out=shares,
        file_checksum=decoded.file_checksum,
    )


def _held_out(
    targets: npt.NDArray[np.int64], validation: float, test: float, first_copies: npt.NDArray[np.int64] | None
) -> list[npt.NDArray[np.intp]]:
    """Which images are for training, validation and testing: the same shares of each class, one at least, never all.

    Of a share of 0 there are none. Copies of an image stay together, unless a class has nothing else to train on.
    """
    rng = np.random.default_rng(_SPLIT_SEED)
    part = np.zeros(len(targets), np.int64)
    for target in np.unique(targets):
        of_class = rng.permutation(np.flatnonzero(targets == target))
        begin = 0
        for number, share in enumerate((validation, test), 1):
            count = min(max(1, round(len(of_class) * share)) if share else 0, len(of_class) - 1 - begin)
            part[of_class[begin : begin + count]] = number
            begin += count
    if first_copies is not None:
        together = part[first_copies]
        trained = np.unique(targets[together == 0])
        part = np.where(np.isin(targets, trained), together, part)
    return [np.flatnonzero(part == number) for number in range(3)]
