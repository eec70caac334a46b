"""Labelled images at a glance: classes, counts, sizes, formats, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from training.data import names
from training.data.names import SPLITS
from training.data.problems import UNEVEN, Problem, named
from training.data.split import Decoded, Facts

LEAST: Final = 2
"""Training images that each class must have."""
FATAL: Final = ("one_class", "no_training_images", "unknown_class", "few_images", "sizes")
"""Kinds of problems that cannot be trained with, the first to be told first."""
OF_TRAINING: Final = (*FATAL, "imbalance", "not_in_split")
"""Kinds of problems that matter to training alone."""


@dataclass(frozen=True)
class Summary:
    """What there is to be learnt from.

    Attributes:
        name: of the data.
        labels: the class names.
        counts: images by split and class, int64 (classes,) each; as the source has them, before any are held out.
        size: height and width that images were brought to.
        notes: what was understood of the source, one line each.
        problems: what was left out, and what else is odd.
        facts: of the files, where there were any.
    """

    name: str
    labels: tuple[str, ...]
    counts: dict[str, npt.NDArray[np.int64]]
    size: tuple[int, int]
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]
    facts: Facts | None

    def describe(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "classes": list(self.labels),
            "splits": {split: int(self.counts[split].sum()) for split in SPLITS},
            "problems": [
                {"kind": problem.kind, "message": problem.message, "files": list(problem.files)}
                for problem in self.problems
            ],
        }

    def fatal(self) -> Problem | None:
        """The first problem that training refuses; None where there is none."""
        by_kind = {problem.kind: problem for problem in reversed(self.problems)}
        return next((by_kind[kind] for kind in FATAL if kind in by_kind), None)


def summarise(name: str, decoded: Decoded) -> Summary:
    """A summary of what was decoded; its problems are the source's, and those of its counts."""
    counts = {
        split: np.bincount(decoded.splits[split].targets, minlength=len(decoded.labels))
        if split in decoded.splits
        else np.zeros(len(decoded.labels), np.int64)
        for split in SPLITS
    }
    return Summary(
        name=name,
        labels=decoded.labels,
        counts=counts,
        size=next((split.images.shape[1:3] for split in decoded.splits.values()), (0, 0)),
        notes=decoded.notes,
        problems=(*_of_counts(decoded, counts), *decoded.problems),
        facts=decoded.facts,
    )


def faulty_name(labels: tuple[str, ...]) -> str | None:
    """What is wrong with the first class name that cannot be one; None where all can."""
    times = Counter(labels)
    for label in labels:
        why = names.fault(label) or ("it is there twice" if times[label] > 1 else None)
        if why:
            return f"{label!r} cannot name a class: {why}; names must differ, and be text"
    return None


def _of_counts(decoded: Decoded, counts: dict[str, npt.NDArray[np.int64]]) -> Iterator[Problem]:
    labels, train = decoded.labels, counts["train"]

    def of(chosen: npt.NDArray[np.bool_]) -> list[str]:
        return [label for label, is_chosen in zip(labels, chosen, strict=True) if is_chosen]

    sizes = {name: split.images.shape[1:3] for name, split in decoded.splits.items()}
    if len(set(sizes.values())) > 1:
        yield Problem("sizes", f"the splits' images differ in size ({sizes}): give a --size")
    if len(labels) < 2:
        yield Problem("one_class", f"there is one class only, {labels[0]!r}: two or more are needed to tell apart")
    if not train.sum():
        yield Problem(
            "no_training_images",
            "there are no training images: expected train/<class>/*.jpg, or x_train in a .npz file",
        )
        return
    for split in ("validation", "test"):
        strange = of((counts[split] > 0) & (train == 0))
        if strange:
            text = f"the {split} split has classes that have no training images: {named(strange)}"
            yield Problem("unknown_class", text, tuple(strange))
        absent = of((counts[split] == 0) & (train > 0))
        if absent and counts[split].sum():
            yield Problem("not_in_split", f"the {split} split has no images of {named(absent)}", tuple(absent))
    for label, count in zip(labels, train.tolist(), strict=True):
        if 0 < count < LEAST:
            text = f"class {label!r} has {count} readable training images; it needs two or more"
            yield Problem("few_images", text, (label,))
    there = train[train > 0]
    if there.max() > UNEVEN * there.min():
        most, least = labels[int(train.argmax())], labels[int(np.where(train > 0, train, train.max() + 1).argmin())]
        text = (
            f"the classes are uneven: {most!r} has {train.max():,} training images, {least!r} {there.min():,}; "
            "images of rare classes count more in training"
        )
        yield Problem("imbalance", text, (most, least))
