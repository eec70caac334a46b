"""Training batches: which images, transformed how, learnt towards what, and how much each counts.

Seed and step decide all of that: a run that is resumed goes on with the batches that the uninterrupted one would have
had.
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
    from training.loop.distillation import Teacher


class Batches:
    """The batches of a run.

    Args:
        data: whose training images they are of.
        transforms: what is done to each, in order.
        size: images a batch.
        seed: of order and transforms.
        teacher: whose answers are learnt together with the labels; None for the labels alone.

    Attributes:
        an_epoch: how many there are in an epoch; what is left over is too little for one, and differs every time.
        class_weights: what an image of each class counts; None where all count the same.
    """

    def __init__(
        self, data: Dataset, transforms: tuple[Transform, ...], size: int, seed: int, teacher: Teacher | None
    ) -> None:
        self._split, self._classes = data.train, len(data.labels)
        self._transforms, self._size, self._seed, self._teacher = transforms, size, seed, teacher
        self._coins = np.random.default_rng([seed, 0]).random(len(data.train)) < 0.5
        self.an_epoch = len(data.train) // size
        self.class_weights = class_weights(data.train.targets, self._classes)

    def at(self, step: int) -> tuple[Batch, Batch, Batch | None]:
        """The batch of a step, counted from 0.

        Returns:
            Images, float32 (N, H, W, 3), values 0 to 255; target probabilities, float32 (N, classes); and the weight of
            each image in the loss, float32 (N,), or None.
        """
        epoch, place = divmod(step, self.an_epoch)
        order = np.random.default_rng([self._seed, 1, epoch]).permutation(len(self._split))
        chosen = order[place * self._size : (place + 1) * self._size]
        draw = Draw(epoch, np.random.default_rng([self._seed, 2, step]), self._coins[chosen])
        images: Batch = self._split.images[chosen]
        for transform in self._transforms:
            images = transform(images, draw)
        targets = self._split.targets[chosen]
        probabilities = np.eye(self._classes, dtype=np.float32)[targets]
        if self._teacher:
            probabilities = self._teacher.targets(images, probabilities)
        weights = None if self.class_weights is None else self.class_weights[targets]
        return images.astype(np.float32), probabilities, weights

    def following(self, step: int) -> Iterator[tuple[Batch, Batch, Batch | None]]:
        """Those from a step on, without end; the next is made while one is trained on."""
        with ThreadPoolExecutor(1, thread_name_prefix="augment") as pool:
            coming = pool.submit(self.at, step)
            while True:
                batch = coming.result()
                step += 1
                coming = pool.submit(self.at, step)
                yield batch


def class_weights(targets: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float32] | None:
    """What an image of each class counts in the loss, so that rare classes are learnt, too; 1 on average.

    Inverse to the class's frequency, but no class counts more than ten times as much as the most frequent one: single
    images would decide steps. None where no class is more than one and a half times as frequent as another.
    """
    counts = np.bincount(targets, minlength=classes)
    if counts.max() <= 1.5 * counts.min():
        return None
    weights = np.minimum(counts.max() / np.maximum(counts, 1), 10.0)
    return np.asarray(weights * len(targets) / (weights * counts).sum(), np.float32)
