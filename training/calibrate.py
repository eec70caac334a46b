"""Temperature, fitted on held-out pictures (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

import math
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


def cross_entropy(logits: Floats, labels: npt.NDArray[np.int64], temperature: float = 1.0) -> float:
    """Mean negative log-likelihood of the labels, in nats."""
    probabilities = softmax(logits, temperature)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(probabilities, 1e-12)).mean())


def temperature(logits: Floats, labels: npt.NDArray[np.int64]) -> float:
    """What to divide logits by so that the likelihood of held-out labels is highest.

    Args:
        logits: (N, classes), of pictures that were not trained on.
        labels: (N,).

    Returns:
        Between 0.02 and 50, by golden-section search on its logarithm, in which the loss has one minimum.
    """
    golden = (math.sqrt(5) - 1) / 2
    low, high = math.log(_LOWEST), math.log(_HIGHEST)
    while high - low > _PRECISION:
        left, right = high - golden * (high - low), low + golden * (high - low)
        if cross_entropy(logits, labels, math.exp(left)) < cross_entropy(logits, labels, math.exp(right)):
            high = right
        else:
            low = left
    return round(math.exp((low + high) / 2), 4)


def expected_calibration_error(probabilities: Floats, labels: npt.NDArray[np.int64], bins: int = BINS) -> float:
    """How far confidence and accuracy lie apart, on average over pictures, in [0, 1].

    Pictures are sorted by the probability of their best class into bins of equal width (Guo et al. 2017, equation 3).
    """
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return float(sum(abs(float((right[place == b] - confidence[place == b]).sum())) for b in range(bins)) / len(labels))
