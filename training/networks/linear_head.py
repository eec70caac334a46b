"""Multinomial logistic regression on fixed features, its strength chosen by cross-validation.

The loss of Kornblith et al. 2019 (arXiv:1805.08974), who measure features so: cross-entropy and a squared penalty of
the weights, on standardised features, minimised by L-BFGS (Liu and Nocedal 1989).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Targets = npt.NDArray[np.int64]

STRENGTHS: Final = tuple(10.0 ** (exponent / 2) for exponent in range(5, -5, -1))
"""Factors of the penalty that are tried, from the strongest: each fit begins where the last one ended."""
FOLDS: Final = 5
_MOST: Final = 10_000
"""Images that are cross-validated at most."""
_STEPS: Final = 200
_MEMORY: Final = 8
_GRADIENT: Final = 1e-4
"""A fit ends where no part of the gradient is larger."""
_DECREASE: Final = 1e-4
"""The share of the decrease that the slope promises which a step must bring (Armijo 1966)."""


@dataclass(frozen=True)
class LinearHead:
    """Logits are features · weights + bias.

    Attributes:
        weights: float32 (features, classes).
        bias: float32 (classes,).
    """

    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    def logits(self, features: Floats) -> npt.NDArray[np.float32]:
        """Logits (N, classes) of features (N, count)."""
        return np.asarray(features @ self.weights + self.bias, np.float32)


@dataclass(frozen=True)
class CrossValidation:
    """Answers to images by heads that were fitted without them.

    Attributes:
        strength: the factor of the penalty whose answers have the lowest cross-entropy.
        logits: float32 (N, classes), at that strength.
        targets: int64 (N,).
    """

    strength: float
    logits: npt.NDArray[np.float32]
    targets: Targets


def fit(
    features: Floats,
    targets: Targets,
    classes: int,
    strength: float,
    counts: Floats | None = None,
    views: Floats | None = None,
) -> LinearHead:
    """Fit a head.

    Args:
        features: (N, count).
        targets: (N,), in [0, classes).
        classes: how many there are.
        strength: half of this, times the squared weights, is added to the sum of the images' cross-entropies.
        counts: (N,), what each image counts in that sum; one each where None.
        views: (views, N, count), features of augmented images; all of an image share what it counts.
    """
    return next(_path(*_with_views(features, targets, counts, views), classes, (strength,)))


def cross_validate(
    features: Floats,
    targets: Targets,
    classes: int,
    counts: Floats | None = None,
    views: Floats | None = None,
    *,
    seed: int = 0,
) -> CrossValidation:
    """Choose the strength by the answers to held-out folds; see `fit`.

    Beyond `_MOST` images, as many are drawn. Weaker penalties are tried until the cross-entropy rises.
    """
    rng = np.random.default_rng(seed)

    def some(index: npt.NDArray[Any]) -> tuple[Floats, Targets, Floats | None, Floats | None]:
        weighed, seen = None if counts is None else counts[index], None if views is None else views[:, index]
        return features[index], targets[index], weighed, seen

    if len(targets) > _MOST:
        features, targets, counts, views = some(rng.permutation(len(targets))[:_MOST])
    fold = folds(targets, min(FOLDS, len(targets)), rng)
    paths = [
        _path(*_with_views(*some(np.flatnonzero(fold != number))), classes, STRENGTHS)
        for number in range(fold.max() + 1)
    ]
    best, lowest = None, np.inf
    for strength in STRENGTHS:
        logits = np.zeros((len(targets), classes), np.float32)
        for number, path in enumerate(paths):
            logits[fold == number] = next(path).logits(features[fold == number])
        loss = float(np.average(cross_entropy(logits, targets)[0], weights=counts))
        if loss >= lowest:
            break
        best, lowest = CrossValidation(strength, logits, targets), loss
    if best is None:
        raise ValueError("the features are not finite")
    return best


def _with_views(
    features: Floats, targets: Targets, counts: Floats | None, views: Floats | None
) -> tuple[Floats, Targets, Floats]:
    """Features and views in one array, with their targets, and what each counts."""
    counts = np.ones(len(features), np.float32) if counts is None else np.asarray(counts, np.float32)
    if views is None or not len(views):
        return features, targets, counts
    times = len(views) + 1
    return np.concatenate([features, *views]), np.tile(targets, times), np.tile(counts / times, times)


def folds(targets: Targets, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """The fold of each image, (N,), so that each fold has about the same share of each class."""
    order = rng.permutation(len(targets))
    order = order[np.argsort(targets[order], kind="stable")]
    fold = np.empty(len(targets), np.int64)
    fold[order] = np.arange(len(targets)) % count
    return fold


def _path(
    features: Floats, targets: Targets, counts: Floats, classes: int, strengths: tuple[float, ...]
) -> Iterator[LinearHead]:
    """Heads of one strength after another, each begun at the last."""
    mean, deviation = features.mean(0), features.std(0)
    deviation = np.where(deviation > 1e-6, deviation, 1.0)
    x = np.asarray((features - mean) / deviation, np.float32)
    solution = np.zeros((x.shape[1] + 1, classes), np.float32)
    for strength in strengths:
        flat = minimise(_loss(x, targets, counts / counts.sum(), strength / counts.sum()), solution.ravel())
        solution = flat.reshape(solution.shape)
        weights = solution[:-1] / deviation[:, None]
        yield LinearHead(weights.astype(np.float32), (solution[-1] - mean @ weights).astype(np.float32))


def _loss(x: Floats, targets: Targets, shares: Floats, penalty: float) -> Callable[[Floats], tuple[float, Floats]]:
    """The loss of weights and bias, one row below the other and flattened, and its gradient."""

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights, bias = np.split(flat.reshape(x.shape[1] + 1, -1), [-1])
        losses, gradient = cross_entropy(x @ weights + bias, targets)
        gradient *= shares[:, None]
        slopes = np.concatenate([x.T @ gradient + penalty * weights, gradient.sum(0, keepdims=True)])
        return float(losses @ shares + penalty / 2 * (weights**2).sum()), slopes.ravel()

    return loss


def cross_entropy(logits: Floats, targets: Targets) -> tuple[Floats, Floats]:
    """Losses (N,) in nats of logits (N, classes), and the gradients by these (N, classes)."""
    shifted = logits - logits.max(1, keepdims=True)
    powers = np.exp(shifted)
    total = powers.sum(1, keepdims=True)
    gradient = powers / total
    rows = np.arange(len(targets))
    gradient[rows, targets] -= 1
    return np.log(total[:, 0]) - shifted[rows, targets], gradient


def minimise(loss: Callable[[Floats], tuple[float, Floats]], start: Floats) -> Floats:
    """L-BFGS for a smooth convex function, with a backtracking line search (Nocedal and Wright 2006, algorithm 7.5).

    Args:
        loss: a point (n,) -> its value and gradient (n,).
        start: where to begin.
    """
    point = start
    value, gradient = loss(point)
    memory: deque[tuple[Floats, Floats, float]] = deque(maxlen=_MEMORY)
    for _ in range(_STEPS):
        if np.abs(gradient).max() < _GRADIENT:
            break
        direction = -_inverse_hessian(memory, gradient)
        slope = float(gradient @ direction)
        length = 1.0 if memory else 1.0 / max(1.0, float(np.linalg.norm(gradient)))
        while True:
            moved = point + length * direction
            new_value, new_gradient = loss(moved)
            if new_value <= value + _DECREASE * length * slope:
                break
            length /= 2
            if length < 1e-8:  # the precision of the numbers ends here
                return point
        step, change = moved - point, new_gradient - gradient
        curvature = float(step @ change)
        if curvature > 0:
            memory.append((step, change, curvature))
        point, value, gradient = moved, new_value, new_gradient
    return point


def _inverse_hessian(memory: deque[tuple[Floats, Floats, float]], gradient: Floats) -> Floats:
    """The gradient times the inverse Hessian as the last steps have shown it: the two-loop recursion."""
    result = gradient.copy()
    shares = []
    for step, change, curvature in reversed(memory):
        share = float(step @ result) / curvature
        result -= share * change
        shares.append(share)
    if memory:
        _, change, curvature = memory[-1]
        result *= curvature / float(change @ change)
    for (step, change, curvature), share in zip(memory, reversed(shares), strict=True):
        result += (share - float(change @ result) / curvature) * step
    return result
