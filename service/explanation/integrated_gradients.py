"""Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365): what pixels add on the way from a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from contract.network.form import Form, in_batches
from contract.network.graph import Floats
from contract.preprocessing import Pixels
from service.explanation.baselines import Baseline, baseline
from service.explanation.heat_map import HeatMap
from service.explanation.question import Question

STEPS: Final = 50
MOST_STEPS: Final = 512


@dataclass(frozen=True)
class IntegratedGradients:
    """What each pixel adds to a score.

    Attributes:
        baseline: where the path begins.
        steps: points on the path at which gradients are taken.
        score, baseline_score: at the path's ends.
        values: float32 (H, W, 3).
    """

    baseline: Baseline
    steps: int
    score: float
    baseline_score: float
    values: Floats

    @property
    def sum(self) -> float:
        """What all pixels add together."""
        return float(self.values.sum(dtype=np.float64))

    @property
    def delta(self) -> float:
        """How far the sum is from the difference of the scores, which it would equal with steps without end."""
        return self.sum - (self.score - self.baseline_score)

    def heat_map(self) -> HeatMap:
        """By pixel, over its colours."""
        return HeatMap(np.asarray(self.values.sum(2), np.float32))


def explain(
    form: Form, image: Pixels, question: Question, *, start: Baseline = "blur", steps: int = STEPS
) -> IntegratedGradients:
    """Integrate the gradient of an image's score, uint8 (1, H, W, 3), by Gauss and Legendre's rule.

    Raises:
        CannotExplain: the model has an operator without a gradient.
    """
    gradient, first = form.gradient, baseline(image, start).astype(np.float32)
    way = image.astype(np.float32) - first
    classes = form.graph.shapes[form.score][-1]
    question_weights = question.weights(classes)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    shares, lengths = ((nodes + 1) / 2).astype(np.float32), weights / 2
    total = np.zeros(image.shape[1:])
    logits, _, _ = gradient(np.concatenate([image.astype(np.float32), first]), np.zeros(classes), form.graph.input)
    done = 0
    for part in in_batches(np.broadcast_to(shares[:, None, None, None], (steps, *image.shape[1:]))):
        _, _, (slopes,) = gradient(first + part * way, question_weights, form.graph.input)
        total += np.tensordot(lengths[done : done + len(part)], slopes, 1)
        done += len(part)
    score, baseline_score = (float(logit) for logit in logits @ question_weights)
    return IntegratedGradients(start, steps, score, baseline_score, np.asarray(total * way[0], np.float32))
