"""Training batches: images, augmented, their target probabilities and their weights in the loss.

The seed and the step alone decide them, so a resumed run has the same batches as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from training.data.augment import Batch, Draw, Transform
from training.data.dataset import Dataset

if TYPE_CHECKING:
    from training.loop.distillation import Distillation


class Batches:
    """The batches of a run.

    Args:
        dataset: the images are from its training split.
        transforms: the augmentation, in order.
        size: images a batch.
        seed: of order and augmentation.
        distillation: where target probabilities come from, beside the true classes; None for the true classes alone.

    Attributes:
        per_epoch: batches in an epoch. The last images of an epoch, too few for a batch, are left out; which images
            these are differs from epoch to epoch.
        class_weights: float32 (classes,), the weight of an image of each class; None where all weigh the same.
    """

    def __init__(
        self,
        dataset: Dataset,
        transforms: tuple[Transform, ...],
        size: int,
        seed: int,
        distillation: Distillation | None,
    ) -> None:
        self._split, self._classes = dataset.train, len(dataset.labels)
        self._transforms, self._size, self._seed, self._distillation = transforms, size, seed, distillation
        self._coins = np.random.default_rng([seed, 0]).random(len(dataset.train)) < 0.5
        self.per_epoch = len(dataset.train) // size
        self.class_weights = class_weights(dataset.train.targets, self._classes)

    def at(self, step: int) -> tuple[Batch, Batch, Batch | None]:
        """Return the batch of a step, counted from 0.

        Returns:
            Images, float32 (N, H, W, 3), values 0 to 255; target probabilities, float32 (N, classes); and the weight of
            each image in the loss, float32 (N,), or None.
        """
        epoch, place = divmod(step, self.per_epoch)
        order = np.random.default_rng([self._seed, 1, epoch]).permutation(len(self._split))
        chosen = order[place * self._size : (place + 1) * self._size]
        draw = Draw(epoch, np.random.default_rng([self._seed, 2, step]), self._coins[chosen])
        images: Batch = self._split.images[chosen]
        for transform in self._transforms:
            images = transform(images, draw)
        targets = self._split.targets[chosen]
        probabilities = np.eye(self._classes, dtype=np.float32)[targets]
        if self._distillation:
            probabilities = self._distillation.targets(images, probabilities)
        weights = None if self.class_weights is None else self.class_weights[targets]
        return images.astype(np.float32), probabilities, weights

    def following(self, step: int) -> Iterator[tuple[Batch, Batch, Batch | None]]:
        """Yield the batches from a step on, without end; the next one is made while one is trained on."""
        with ThreadPoolExecutor(1, thread_name_prefix="augment") as pool:
            following = pool.submit(self.at, step)
            while True:
                batch = following.result()
                step += 1
                following = pool.submit(self.at, step)
                yield batch


def class_weights(targets: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float32] | None:
    """Return the weight of an image of each class in the loss, so that rare classes are learnt too.

    Weights are inverse to the class's frequency and 1 on average. No weight is more than ten times that of the most
    frequent class, or single images would dominate steps.

    Args:
        targets: int64 (N,).
        classes: how many there are.

    Returns:
        float32 (classes,); None where no class is more than one and a half times as frequent as another.
    """
    counts = np.bincount(targets, minlength=classes)
    if counts.max() <= 1.5 * counts.min():
        return None
    weights = np.minimum(counts.max() / np.maximum(counts, 1), 10.0)
    return np.asarray(weights * len(targets) / (weights * counts).sum(), np.float32)
