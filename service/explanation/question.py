"""Which of a model's answers is to be explained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from contract.network.graph import Floats


@dataclass(frozen=True)
class Question:
    """Which answer is to be explained.

    Attributes:
        target: a class' index.
        against: another one, whose logit is taken away; None for the target's alone.
    """

    target: int
    against: int | None = None

    def weights(self, classes: int) -> Floats:
        """What each logit counts, float32 (classes)."""
        by_class = np.zeros(classes, np.float32)
        by_class[self.target] += 1
        if self.against is not None:
            by_class[self.against] -= 1
        return by_class
