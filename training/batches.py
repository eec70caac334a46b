"""Training batches: which pictures, transformed how, learnt towards what, and how much each counts.

Seed and step decide all of that, and where an epoch looks at some pictures only, their losses and how far the run is:
one that is resumed goes on with the batches that the uninterrupted one would have had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from training.augment import Batch, Draw, Transform
from training.data import Dataset
from training.selection import Hardest

if TYPE_CHECKING:
    from training.teacher import Teacher


class Batches:
    """The batches of a run.

    Args:
        data: whose training pictures they are of.
        transforms: what is done to each, in order.
        size: pictures a batch.
        seed: of order and transforms.
        teacher: whose answers are learnt together with the labels; None for the labels alone.
        selection: of the pictures that an epoch looks at; all where None.
        progress: tells how far the run is, from 0 to 1, as an epoch begins, and 1 where it is the last; only a
            selection asks.

    Attributes:
        an_epoch: how many there are in an epoch; what is left over is too little for one, and differs every time.
        class_weights: what a picture of each class counts; None where all count the same.
        losses: each training picture's when it was last seen, float32 (N,), infinite where it has not been.
        order: the pictures of the epoch that was begun last.
    """

    def __init__(
        self,
        data: Dataset,
        transforms: tuple[Transform, ...],
        size: int,
        seed: int,
        teacher: Teacher | None = None,
        selection: Hardest | None = None,
        progress: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._pictures, self._classes = data.train, len(data.labels)
        self._transforms, self._size, self._seed, self._teacher = transforms, size, seed, teacher
        self._selection, self._progress = selection, progress
        self._coins = np.random.default_rng([seed, 0]).random(len(data.train)) < 0.5
        self.an_epoch = (selection.count(len(data.train)) if selection else len(data.train)) // size
        self.class_weights = class_weights(data.train.labels, self._classes)
        self.losses = np.full(len(data.train), np.inf, np.float32)
        self.order, self._epoch = np.empty(0, np.int64), -1

    def at(self, step: int) -> tuple[Batch, Batch, Batch | None]:
        """The batch of a step, counted from 0; where there is a selection, one epoch's after the other.

        Returns:
            Pictures, float32 (N, H, W, 3), values 0 to 255; targets, float32 (N, classes); and what each counts,
            float32 (N,), or None.
        """
        epoch, place = divmod(step, self.an_epoch)
        if epoch != self._epoch:
            self.order, self._epoch = self._ordered(epoch), epoch
        chosen = self.order[place * self._size : (place + 1) * self._size]
        draw = Draw(epoch, np.random.default_rng([self._seed, 2, step]), self._coins[chosen])
        pictures: Batch = self._pictures.images[chosen]
        for transform in self._transforms:
            pictures = transform(pictures, draw)
        labels = self._pictures.labels[chosen]
        targets = np.eye(self._classes, dtype=np.float32)[labels]
        if self._teacher:
            targets = self._teacher.targets(pictures, targets)
        weights = None
        if self.class_weights is not None:  # 1 on average over what the epoch looks at, too
            weights = self.class_weights[labels] / self.class_weights[self._pictures.labels[self.order]].mean()
        return pictures.astype(np.float32), targets, weights

    def following(self, step: int) -> Iterator[tuple[Batch, Batch, Batch | None]]:
        """Those from a step on, without end; the next is made while one is trained on.

        Only a selection's next epoch waits until the losses of the last one have been told.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="augment") as pool:
            coming = pool.submit(self.at, step)
            while True:
                batch = coming.result()
                step += 1
                waits = self._selection is not None and step % self.an_epoch == 0
                if not waits:
                    coming = pool.submit(self.at, step)
                yield batch
                if waits:
                    coming = pool.submit(self.at, step)

    def tell(self, step: int, losses: npt.NDArray[np.float32]) -> None:
        """What the pictures of the batch of a step, the one that was trained on last, lost: (N,)."""
        place = step % self.an_epoch
        self.losses[self.order[place * self._size : (place + 1) * self._size]] = losses

    def take_up(self, step: int, losses: npt.NDArray[np.float32], order: npt.NDArray[np.int64]) -> None:
        """Go on at a step, with the losses and the order that there were after the step before it."""
        self.losses, self.order, self._epoch = losses, order, (step - 1) // self.an_epoch

    def _ordered(self, epoch: int) -> npt.NDArray[np.int64]:
        rng = np.random.default_rng([self._seed, 1, epoch])
        if self._selection:
            return self._selection.choose(self.losses, self._progress(), rng)
        return rng.permutation(len(self._pictures))


def class_weights(labels: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float32] | None:
    """What a picture of each class counts in the loss, so that rare classes are learnt, too; 1 on average.

    Inverse to the class's frequency, but no class counts more than ten times as much as the most frequent one: single
    pictures would decide steps. None where no class is more than one and a half times as frequent as another.
    """
    counts = np.bincount(labels, minlength=classes)
    if counts.max() <= 1.5 * counts.min():
        return None
    weights = np.minimum(counts.max() / np.maximum(counts, 1), 10.0)
    return np.asarray(weights * len(labels) / (weights * counts).sum(), np.float32)
