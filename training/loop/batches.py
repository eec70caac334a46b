"""Training batches: images, augmented, their target probabilities and their weights in the loss.

The seed and the step alone decide them, so a resumed run has the same batches as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from training.data.augment import Batch, Draw, Parameters, Transform
from training.data.dataset import Dataset
from training.data.split import Split

if TYPE_CHECKING:
    from training.loop.distillation import Distillation


@dataclass(frozen=True)
class Plan:
    """What is random in a step's batch, drawn before any image is touched.

    Attributes:
        chosen: int64 (N,), positions in the training split.
        parameters: what each transform has drawn.
    """

    chosen: npt.NDArray[np.int64]
    parameters: tuple[Parameters, ...]

    def part(self, begin: int, end: int) -> Plan:
        """Return the plan of some of the images, by their places in the batch."""
        parameters = tuple(tuple(array[begin:end] for array in arrays) for arrays in self.parameters)
        return Plan(self.chosen[begin:end], parameters)


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
        transforms, size: as given.
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
        self.transforms, self.size, self._seed, self._distillation = transforms, size, seed, distillation
        self._last_order = -1, np.empty(0, np.int64)
        self._coins = np.random.default_rng([seed, 0]).random(len(dataset.train)) < 0.5
        self.per_epoch = len(dataset.train) // size
        self.class_weights = class_weights(dataset.train.targets, self._classes)

    @property
    def is_distilled(self) -> bool:
        """Whether target probabilities come from a teacher, too."""
        return self._distillation is not None

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return self._classes

    @property
    def split(self) -> Split:
        """The training images and their targets."""
        return self._split

    @property
    def images_size(self) -> int:
        """Bytes of all training images together."""
        return int(np.prod(self._split.images.shape))

    def plan(self, step: int) -> Plan:
        """Draw what is random in the batch of a step, counted from 0.

        The order is that of the seed and the epoch, everything else that of the seed and the step.
        """
        epoch, place = divmod(step, self.per_epoch)
        chosen = self._order(epoch)[place * self.size : (place + 1) * self.size]
        draw = Draw(epoch, np.random.default_rng([self._seed, 2, step]), self._coins[chosen])
        _, height, width, _ = self._split.images.shape
        return Plan(chosen, tuple(transform.draw(draw, (height, width)) for transform in self.transforms))

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        known, order = self._last_order
        if known != epoch:
            order = np.random.default_rng([self._seed, 1, epoch]).permutation(len(self._split))
            self._last_order = epoch, order  # in one assignment: several threads draw
        return order

    def augmented(self, plan: Plan, count: int | None = None) -> Batch:
        """Return a plan's images after the first `count` transforms; after all where None."""
        images: Batch = self._split.images[plan.chosen]
        for transform, parameters in zip(self.transforms[:count], plan.parameters, strict=False):
            images = transform.apply(images, parameters)
        return images

    def at(self, step: int) -> tuple[Batch, Batch, Batch | None]:
        """Return the batch of a step, counted from 0.

        Returns:
            Images, float32 (N, H, W, 3), values 0 to 255; target probabilities, float32 (N, classes); and the weight of
            each image in the loss, float32 (N,), or None.
        """
        plan = self.plan(step)
        images, targets = self.augmented(plan), self._split.targets[plan.chosen]
        probabilities = np.eye(self._classes, dtype=np.float32)[targets]
        if self._distillation:
            probabilities = self._distillation.targets(images, probabilities)
        weights = None if self.class_weights is None else self.class_weights[targets]
        return images.astype(np.float32), probabilities, weights

    def following(self, step: int) -> Generator[tuple[Batch, Batch, Batch | None]]:
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
