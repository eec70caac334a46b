"""Images that are there more than once, byte for byte."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from training.data.names import SPLITS, natural
from training.data.problems import Problem, named


class Copy(NamedTuple):
    """An image: its name for people, its split, its class, and its SHA-256 (empty where it could not be read)."""

    name: str
    split: str
    label: str
    digest: str


def first_copies(digests: Sequence[str]) -> npt.NDArray[np.int64] | None:
    """For each image the position of the first one of the same digest; None where no two have the same.

    Example:
        >>> first_copies(["a", "b", "a"]).tolist()
        [0, 1, 0]
    """
    first: dict[str, int] = {}
    places = [first.setdefault(digest, place) for place, digest in enumerate(digests)]
    return np.array(places, np.int64) if len(first) < len(digests) else None


def find(images: Iterable[Copy]) -> list[Problem]:
    """The images that are in two splits, in two classes, or twice in one class of one split."""
    by_digest: dict[str, list[Copy]] = {}
    for image in images:
        if image.digest:
            by_digest.setdefault(image.digest, []).append(image)
    problems: list[Problem] = []
    for copies in by_digest.values():
        if len(copies) < 2:
            continue
        copies.sort(key=lambda image: SPLITS.index(image.split))
        names = tuple(image.name for image in copies)
        splits = sorted({image.split for image in copies}, key=SPLITS.index)
        labels = sorted({image.label for image in copies}, key=natural)
        if len(splits) > 1:
            text = f"the same image is in {' and '.join(splits)}: {named(names)}"
            problems.append(Problem("duplicates_across_splits", text, names))
        if len(labels) > 1:
            text = f"the same image is in {' and '.join(map(repr, labels))}: {named(names)}"
            problems.append(Problem("duplicates_across_classes", text, names))
        if len(splits) == len(labels) == 1:
            text = f"the same image is there {len(copies)} times: {named(names)}"
            problems.append(Problem("duplicates", text, names))
    return problems
