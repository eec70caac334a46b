"""Optimisers, learning-rate schedules and weight averaging."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops


class Schedule(Protocol):
    """A learning-rate schedule, as a factor on the peak learning rate."""

    def at(self, progress: float) -> float:
        """Return the factor at `progress`, which goes from 0 to 1 over the run."""


@dataclass(frozen=True)
class Constant:
    """The peak learning rate throughout."""

    def at(self, progress: float) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True)
class Triangle:
    """Linear from `start` up to 1 at the progress `peak`, then linear down to `end`."""

    start: float = 0.2
    peak: float = 0.23
    end: float = 0.07

    def at(self, progress: float) -> float:
        """Return the factor at `progress`."""
        return float(np.interp(progress, (0.0, self.peak, 1.0), (self.start, 1.0, self.end)))


@dataclass(frozen=True)
class Cosine:
    """From 1 down to `end` along half a cosine (Loshchilov and Hutter 2017, arXiv:1608.03983)."""

    end: float = 0.0

    def at(self, progress: float) -> float:
        """Return the factor at `progress`."""
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * progress)) / 2


class Optimiser(Protocol):
    """A recipe's choice of optimiser."""

    @property
    def learning_rate(self) -> float:
        """The peak learning rate."""

    def make(self) -> keras.optimizers.Optimizer:
        """Make a Keras optimiser at the peak learning rate."""

    def at_batch(self, factor: float) -> Optimiser:
        """Return this optimiser for batches that are `factor` times as large."""


@dataclass(frozen=True)
class Adam:
    """Kingma and Ba 2015, arXiv:1412.6980."""

    learning_rate: float = 1e-3

    def make(self) -> keras.optimizers.Optimizer:
        """Make a Keras Adam."""
        return keras.optimizers.Adam(self.learning_rate)

    def at_batch(self, factor: float) -> Adam:
        """Return the same: Adam's steps do not grow with the gradient."""
        return self


@dataclass(frozen=True)
class Nesterov:
    """Stochastic gradient descent with Nesterov momentum; biases of batch normalisation have a higher learning rate.

    Attributes:
        learning_rate: at its peak, for a loss that is the mean over the batch.
        momentum: fraction of the last step that is kept.
        decay: weight decay; this times the weight is added to its gradient.
        bias_factor: factor on the learning rate of batch normalisation's biases (beta).
    """

    learning_rate: float = 1.5
    momentum: float = 0.85
    decay: float = 1.33e-3
    bias_factor: float = 64.0

    def make(self) -> keras.optimizers.Optimizer:
        """Make the optimiser."""
        return GroupedSGD(self.learning_rate, self.momentum, decay=self.decay, bias_factor=self.bias_factor)

    def at_batch(self, factor: float) -> Nesterov:
        """Scale the learning rate in proportion (Goyal et al. 2017, arXiv:1706.02677)."""
        return replace(self, learning_rate=self.learning_rate * factor)


@keras.saving.register_keras_serializable("kernelscope")
class GroupedSGD(keras.optimizers.SGD):  # type: ignore[misc]  # keras is untyped
    """Keras' SGD with `Nesterov`'s two groups of variables; the biases decay as slowly as the kernels."""

    def __init__(
        self, learning_rate: float, momentum: float, *, decay: float, bias_factor: float, **options: Any
    ) -> None:
        super().__init__(learning_rate, momentum=momentum, nesterov=True, **options)
        self.decay = decay
        self.bias_factor = bias_factor

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        """Apply one step; as it is linear in the gradient, a factor on the learning rate is one on the gradient."""
        # under JAX Keras gives no variables, and has no public name for those that the optimiser was built with
        variables = self._trainable_variables if trainable_variables is None else trainable_variables
        grads = [
            gradient * (self.bias_factor if variable.path.endswith("/beta") else 1.0) + variable * self.decay
            for gradient, variable in zip(grads, variables, strict=True)
        ]
        return super().apply(grads, trainable_variables)

    def get_config(self) -> dict[str, Any]:
        """Return the options, for saving."""
        return {**super().get_config(), "decay": self.decay, "bias_factor": self.bias_factor}


class Averaging(Protocol):
    """Slow copies of all weights, the statistics of normalisation included, that follow the fast weights."""

    slow: list[Any]
    replaces: bool
    """Whether the fast weights become the slow ones whenever these change."""

    def __init__(self, variables: list[Any]) -> None:
        """Begin with a copy of `variables`, the fast weights."""

    def keep(self, step: int, progress: float) -> float | None:
        """Return how much the slow weights keep of themselves after a step, from 0 to 1; None: they do not change.

        Args:
            step: counted from 1.
            progress: of the run, from 0 to 1.
        """

    def step(self, step: int, progress: float) -> None:
        """Update after a step, counted from 1, at the run's progress from 0 to 1."""

    def finish(self) -> None:
        """Replace the fast weights by the slow ones."""

    def shown(self) -> AbstractContextManager[None]:
        """In this block the variables hold the weights that an epoch is evaluated with."""


class Lookahead:
    """Slow weights that replace the fast ones at regular steps (Zhang et al. 2019, arXiv:1907.08610).

    With the schedule of Jordan 2024: every five steps the slow weights take a fraction of the fast ones, large at first
    and close to zero towards the end. At the end the slow weights remain.
    """

    every = 5
    replaces = True

    def __init__(self, variables: list[Any]) -> None:
        self.fast = variables
        self.slow = _copies(variables)

    def keep(self, step: int, progress: float) -> float | None:
        """Return what the slow weights keep after a step, counted from 1, at the run's progress from 0 to 1."""
        return None if step % self.every else 0.95**self.every * progress**3

    def step(self, step: int, progress: float) -> None:
        """Update after a step, counted from 1, at the run's progress from 0 to 1."""
        keep = self.keep(step, progress)
        if keep is not None:
            self.slow = _mixed(self.slow, self.fast, keep)
            self.finish()

    def finish(self) -> None:
        """Replace the fast weights by the slow ones."""
        _assign(self.fast, self.slow)

    def shown(self) -> AbstractContextManager[None]:
        """Leave the fast weights: they were the slow ones a few steps ago."""
        return nullcontext()


class MovingAverage:
    """Exponential moving average of the weights, which does not affect the run itself (Polyak and Juditsky 1992).

    It covers about `horizon` steps, and fewer at the beginning. At a constant learning rate the weights oscillate
    around a better point, and their average is closer to it.
    """

    every, horizon = 10, 1000
    replaces = False

    def __init__(self, variables: list[Any]) -> None:
        self.fast = variables
        self.slow = _copies(variables)

    def keep(self, step: int, progress: float) -> float | None:
        """Return what the average keeps after a step, counted from 1; the progress is not used."""
        taken, rest = divmod(step, self.every)
        return None if rest else min(1 - self.every / self.horizon, taken / (taken + 9))

    def step(self, step: int, progress: float) -> None:
        """Update after a step, counted from 1; the progress is not used."""
        keep = self.keep(step, progress)
        if keep is not None:
            self.slow = _mixed(self.slow, self.fast, keep)

    def finish(self) -> None:
        """Replace the weights by their average."""
        _assign(self.fast, self.slow)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """In this block the variables hold the average."""
        fast = _copies(self.fast)
        self.finish()
        try:
            yield
        finally:
            _assign(self.fast, fast)


def _copies(variables: list[Any]) -> list[Any]:
    return [ops.copy(ops.convert_to_tensor(variable)) for variable in variables]


def _mixed(slow: list[Any], fast: list[Any], keep: float) -> list[Any]:
    return [keep * old + (1 - keep) * new.value for old, new in zip(slow, fast, strict=True)]


def _assign(variables: list[Any], values: list[Any]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(ops.copy(value))  # JAX's step donates the array that a variable holds
