"""Labelled images that an imported model is calibrated with and scored on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from contract.card import Card
from contract.errors import DataError
from contract.preprocessing import Pixels
from training.data import dataset as datasets
from training.data.decode import Progress
from training.data.split import Split

LEAST: Final = 20
"""Images: a temperature that is fitted on fewer says little."""
_SEED: Final = 20180521
"""The halves are the same each time."""


@dataclass(frozen=True)
class Samples:
    """Labelled images in two parts, with targets in the order of the model's labels.

    Attributes:
        calibration: what the temperature and the rejection threshold are fitted on.
        score: what accuracy is measured on.
        name: of the latter.
    """

    calibration: Split
    score: Split
    name: str

    def first(self, count: int) -> Pixels:
        """A few of the images to be scored, uint8 (N, H, W, 3)."""
        return np.asarray(self.score.images[np.arange(min(count, len(self.score)))])


def read(where: str, card: Card, progress: Progress = lambda done, total: None) -> Samples:
    """Read labelled images.

    Of images in splits, those of `validation` calibrate and those of `test` score. Where one of these is missing, the
    other is halved; where both are, all images are. Images that the model was trained on are no use here.

    Args:
        where: see `training.data.dataset.load`.
        card: says size, resize mode and labels.
        progress: called while images are decoded.

    Raises:
        UsageError: there are no such data.
        DataError: they cannot be read, have classes that the model does not know, or are fewer than `LEAST`.
    """
    size = card.height, card.width
    _, decoded = datasets.read(where, size=size, resize_mode=card.resize_mode, labels=card.labels, progress=progress)
    unknown = sorted(set(decoded.labels) - set(card.labels))
    if unknown:
        raise DataError(f"{where} has classes that the model does not know: {', '.join(unknown[:5])}")
    order = np.array([card.labels.index(label) for label in decoded.labels])
    splits = {
        name: replace(split, targets=order[split.targets]) for name, split in decoded.splits.items() if len(split)
    }
    if "validation" in splits and "test" in splits:
        return Samples(splits["validation"], splits["test"], "test")
    name = next((name for name in ("test", "validation", "train") if name in splits), "")
    if not name or len(splits[name]) < LEAST:
        count = len(splits[name]) if name else 0
        raise DataError(f"{where} has {count} images to calibrate and score on: give {LEAST} or more")
    images = splits[name]
    places = np.random.default_rng(_SEED).permutation(len(images))
    half = len(images) // 2
    parts = np.sort(places[:half]), np.sort(places[half:])
    return Samples(images.take(parts[0]), images.take(parts[1]), f"half of the {'images' if name == 'train' else name}")
