"""Which training pictures an epoch looks at, where it does not look at all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops


@dataclass(frozen=True)
class Hardest:
    """The pictures whose loss was highest when they were last seen, and some of the others, drawn anew each epoch.

    A picture that is learnt already costs a step as much as another, and teaches it less. After the selective
    backpropagation of Jiang et al. 2019 (arXiv:1910.00762), without its forward pass over what is left out, and with
    the soft choice and the unbiased end of Qin et al. 2024 (arXiv:2303.04947).

    Attributes:
        hard: the share of the pictures that are looked at because they are hard.
        others: the share of the rest that are looked at all the same, so that it shows if one is forgotten.
        until: how far the run is, from 0 to 1, when it ceases to prefer hard ones: what is learnt last, and the
            statistics of normalisation, shall be those of all pictures.
    """

    hard: float = 0.3
    others: float = 3 / 7
    until: float = 0.9

    def count(self, pictures: int) -> int:
        """How many of so many pictures an epoch looks at, all the run long."""
        return max(1, round((self.hard + self.others * (1 - self.hard)) * pictures))

    def choose(
        self, losses: npt.NDArray[np.float32], progress: float, rng: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        """The pictures of an epoch, as indices in random order.

        Args:
            losses: each picture's when it was last seen, (N,), infinite where it has not been.
            progress: how far the run is at the epoch's beginning, from 0 to 1.
            rng: draws the others, the order, and among equals.
        """
        order = rng.permutation(len(losses))
        count = self.count(len(losses))
        if progress >= self.until:
            return order[:count]
        hardest_first = order[np.argsort(-losses[order], kind="stable")]
        hard = round(self.hard * len(losses))
        others = rng.permutation(hardest_first[hard:])[: count - hard]
        return rng.permutation(np.concatenate([hardest_first[:hard], others]))


class Losses(keras.metrics.Metric):  # type: ignore[misc]  # keras is untyped
    """Keeps what each picture of the last batch lost; training has computed its logits anyway.

    It is how far the answer is from the target (the Kullback-Leibler divergence): the cross-entropy where the target is
    a class, and nothing where a teacher is unsure and its pupil is just as much so.
    """

    def __init__(self, batch_size: int) -> None:
        super().__init__(name="losses")
        self.values = self.add_variable((batch_size,), initializer="zeros", name="values")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Of targets and logits, (N, classes) each; what a picture counts does not matter here."""
        entropy = -ops.sum(y_true * ops.log(ops.maximum(y_true, 1e-7)), -1)
        self.values.assign(keras.losses.categorical_crossentropy(y_true, y_pred, from_logits=True) - entropy)

    def result(self) -> Any:
        """Their mean."""
        return ops.mean(self.values)

    def reset_state(self) -> None:
        """Nothing: they stay until the next batch."""
