"""Temperature, fitted on held-out images (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

_LOWEST, _HIGHEST = 0.02, 50.0
_PRECISION: Final = 1e-4
BINS: Final = 15


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Probabilities, (N, classes), of logits over a temperature."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def cross_entropy(
    logits: Floats, targets: npt.NDArray[np.int64], temperature: float = 1.0, counts: Floats | None = None
) -> float:
    """Mean negative log-likelihood of the targets, in nats; `counts`, (N,), is what each image counts, if not one."""
    probabilities = softmax(logits, temperature)[np.arange(len(targets)), targets]
    return float(np.average(-np.log(np.maximum(probabilities, 1e-12)), weights=counts))


def temperature(logits: Floats, targets: npt.NDArray[np.int64]) -> float:
    """What to divide logits by so that the likelihood of held-out targets is highest.

    One more image than there is, of any class, counts as held out, as in Platt 1999: where all are answered right,
    the likelihood alone would make every answer certain.

    Args:
        logits: (N, classes), of images that were not trained on.
        targets: (N,).

    Returns:
        Between 0.02 and 50, by golden-section search on its logarithm, in which the loss has one minimum.
    """
    doubt = 1 / (len(targets) + 1)

    def loss(temperature: float) -> float:
        logs = np.log(np.maximum(softmax(logits, temperature), 1e-12))
        return -float((1 - doubt) * logs[np.arange(len(targets)), targets].mean() + doubt * logs.mean())

    golden = (math.sqrt(5) - 1) / 2
    low, high = math.log(_LOWEST), math.log(_HIGHEST)
    while high - low > _PRECISION:
        left, right = high - golden * (high - low), low + golden * (high - low)
        if loss(math.exp(left)) < loss(math.exp(right)):
            high = right
        else:
            low = left
    return round(math.exp((low + high) / 2), 4)


@dataclass(frozen=True)
class Bin:
    """Images whose answers have about the same probability.

    Attributes:
        images: how many.
        confidence: the mean probability of their answers; 0 where there are none.
        accuracy: the share answered right; 0 where there are none.
    """

    images: int
    confidence: float
    accuracy: float


def reliability(probabilities: Floats, targets: npt.NDArray[np.int64], bins: int = BINS) -> list[Bin]:
    """Images by the probability of their best class, in bins of equal width (Guo et al. 2017, figure 1)."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == targets
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    there = [place == b for b in range(bins)]
    return [
        Bin(int(one.sum()), float(confidence[one].mean()), float(right[one].mean())) if one.any() else Bin(0, 0.0, 0.0)
        for one in there
    ]


def expected_calibration_error(probabilities: Floats, targets: npt.NDArray[np.int64], bins: int = BINS) -> float:
    """How far confidence and accuracy lie apart, on average over images, in [0, 1] (Guo et al. 2017, equation 3)."""
    found = reliability(probabilities, targets, bins)
    return sum(one.images * abs(one.accuracy - one.confidence) for one in found) / len(targets)
