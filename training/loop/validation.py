"""What a network's weights are worth: its figures on the validation images, and which of two epochs is better."""

from __future__ import annotations

from typing import Final

import keras
import numpy as np
import numpy.typing as npt

from contract.errors import KernelscopeError
from training.data.augment import Batch
from training.data.jpeg import compress
from training.data.split import Split
from training.evaluation.calibrate import cross_entropy
from training.loop.progress import Row
from training.networks.prediction import outputs

_BATCH: Final = 500
_PIXELS: Final = 2**22
"""Pixels in a batch of evaluation at most: the first planes of a network take up to a kilobyte for each."""


class NotFiniteError(KernelscopeError):
    """The network's logits are not finite."""


def predict(model: keras.Model, images: Batch) -> npt.NDArray[np.float32]:
    """Return logits, float32 (N, classes), of uint8 images (N, H, W, 3); computed in batches."""
    size = max(1, min(_BATCH, _PIXELS // (images.shape[1] * images.shape[2])))
    return np.concatenate([outputs(model, images[i : i + size]) for i in range(0, len(images), size)])


class Validation:
    """The validation images, as they are and, if the recipe wants that, as JPEG.

    Args:
        split: the images and their targets.
        by_class: float32 (classes,), the weight of an image of each class; None where all weigh the same.
        quality: of the JPEG images; 0 for none.
    """

    def __init__(self, split: Split, by_class: npt.NDArray[np.float32] | None, quality: int) -> None:
        self._split = split
        self._counts = None if by_class is None else by_class[split.targets]
        self._compressed = compress(split.images[:], [quality] * len(split)) if quality else None

    def figures(self, model: keras.Model) -> Row:
        """Return loss and accuracy, with the class weights of the loss; the accuracy on JPEG is None if not wanted.

        Raises:
            NotFiniteError: the network's logits are not finite.
        """
        targets = self._split.targets
        logits = predict(model, self._split.images)
        if not np.isfinite(logits).all():
            raise NotFiniteError("the network's logits are not finite")
        jpeg = None if self._compressed is None else self._accuracy(predict(model, self._compressed))
        return {
            "validation_loss": round(cross_entropy(logits, targets, counts=self._counts), 6),
            "validation_accuracy": self._accuracy(logits),
            "validation_jpeg_accuracy": jpeg,
        }

    def _accuracy(self, logits: npt.NDArray[np.float32]) -> float:
        return round(float(np.average(logits.argmax(1) == self._split.targets, weights=self._counts)), 6)


def best(history: list[Row], *, has_start: bool) -> Row:
    """Return the epoch whose weights are kept; a later one if several are equal.

    Fine-tuning of a network with a fitted head takes few epochs and few validation images. To choose between the epochs
    by these adds noise, and the last ones, at the lowest learning rates, are the better ones: kept is the last epoch
    that is no worse than the start. On 640 images of flowers, in two folds, the last of six epochs classified 95.2 %
    correctly, the one with the highest validation accuracy 93.9 %, the start 92.8 %.

    Args:
        history: the epochs, in order; with a start, the first row is that of the start.
        has_start: whether the network began with a fitted head.
    """
    if has_start:
        return next(row for row in reversed(history) if _rank(row) >= _rank(history[0]))
    return max(reversed(history), key=_rank)


def _rank(row: Row) -> tuple[float, float]:
    """Return what the best epoch is chosen by; of equal criteria the one with the lower loss."""
    return criterion(row), -row["validation_loss"]


def criterion(row: Row) -> float:
    """Return what the best epoch is chosen by: validation accuracy, and its mean with that on JPEG if measured."""
    jpeg = row.get("validation_jpeg_accuracy")
    accuracy: float = row["validation_accuracy"]
    return accuracy if jpeg is None else (accuracy + jpeg) / 2
