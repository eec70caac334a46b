"""Optimisers, schedules and weight averaging: what moves the weights."""

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
    """The learning rate's course, as a share of its peak."""

    def at(self, progress: float) -> float:
        """The share at `progress`, which goes from 0 to 1 over the run."""


@dataclass(frozen=True)
class Constant:
    """The peak throughout."""

    def at(self, progress: float) -> float:
        """One."""
        return 1.0


@dataclass(frozen=True)
class Triangle:
    """From `start` up to the peak at `peak` of the run, then straight down to `end`."""

    start: float = 0.2
    peak: float = 0.23
    end: float = 0.07

    def at(self, progress: float) -> float:
        """The share at `progress`."""
        return float(np.interp(progress, (0.0, self.peak, 1.0), (self.start, 1.0, self.end)))


@dataclass(frozen=True)
class Cosine:
    """From the peak down to `end` along half a cosine (Loshchilov and Hutter 2017, arXiv:1608.03983)."""

    end: float = 0.0

    def at(self, progress: float) -> float:
        """The share at `progress`."""
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * progress)) / 2


class Optimiser(Protocol):
    """A recipe's choice of optimiser."""

    @property
    def rate(self) -> float:
        """The peak learning rate."""

    def make(self) -> keras.optimizers.Optimizer:
        """A fresh Keras optimiser at the peak rate."""

    def at_batch(self, factor: float) -> Optimiser:
        """This one for batches that are `factor` times as large."""


@dataclass(frozen=True)
class Adam:
    """Kingma and Ba 2015, arXiv:1412.6980."""

    rate: float = 1e-3

    def make(self) -> keras.optimizers.Optimizer:
        """A fresh Keras Adam."""
        return keras.optimizers.Adam(self.rate)

    def at_batch(self, factor: float) -> Adam:
        """The same: Adam's steps do not grow with the gradient."""
        return self


@dataclass(frozen=True)
class Nesterov:
    """Stochastic gradient descent with Nesterov momentum, and a rate of their own for normalisation's offsets.

    Attributes:
        rate: for a loss that is the mean over the batch.
        momentum: the share of the last step that is kept.
        decay: this times the weight is added to its gradient.
        offsets: the factor on the rate of batch normalisation's offsets.
    """

    rate: float = 1.5
    momentum: float = 0.85
    decay: float = 1.33e-3
    offsets: float = 64.0

    def make(self) -> keras.optimizers.Optimizer:
        """A fresh optimiser."""
        return GroupedSGD(self.rate, self.momentum, decay=self.decay, offsets=self.offsets)

    def at_batch(self, factor: float) -> Nesterov:
        """With a rate in proportion (Goyal et al. 2017, arXiv:1706.02677)."""
        return replace(self, rate=self.rate * factor)


@keras.saving.register_keras_serializable("kernelscope")
class GroupedSGD(keras.optimizers.SGD):  # type: ignore[misc]  # keras is untyped
    """Keras' SGD with `Nesterov`'s two groups of variables; the offsets decay as slowly as the kernels."""

    def __init__(self, learning_rate: float, momentum: float, *, decay: float, offsets: float, **options: Any) -> None:
        super().__init__(learning_rate, momentum=momentum, nesterov=True, **options)
        self.decay = decay
        self.offsets = offsets

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        """One step. The step is linear in the gradient, so a factor on the rate is a factor on the gradient."""
        variables = self._trainable_variables if trainable_variables is None else trainable_variables
        grads = [
            gradient * (self.offsets if variable.path.endswith("/beta") else 1.0) + variable * self.decay
            for gradient, variable in zip(grads, variables, strict=True)
        ]
        return super().apply(grads, trainable_variables)

    def get_config(self) -> dict[str, Any]:
        """The options, for saving."""
        return {**super().get_config(), "decay": self.decay, "offsets": self.offsets}


class Averaging(Protocol):
    """A slow copy of all weights, normalisation's statistics included, that follows the fast ones."""

    slow: list[Any]

    def __init__(self, variables: list[Any]) -> None:
        """Begin with a copy of `variables`, the fast weights."""

    def step(self, step: int, progress: float) -> None:
        """Called after each step, counted from 1, with the run's progress from 0 to 1."""

    def finish(self) -> None:
        """Let the slow weights replace the fast ones."""

    def shown(self) -> AbstractContextManager[None]:
        """In this block the variables hold what an epoch is judged by, and kept for."""


class Lookahead:
    """Slow weights that now and then replace the fast ones (Zhang et al. 2019, arXiv:1907.08610).

    With the schedule of Jordan 2024: every five steps the slow copy takes a share of the fast weights, large at first
    and towards the end next to nothing, and at the end the slow copy is what stays.
    """

    every = 5

    def __init__(self, variables: list[Any]) -> None:
        self.fast = variables
        self.slow = _copies(variables)

    def step(self, step: int, progress: float) -> None:
        """Called after each step, counted from 1, with the run's progress from 0 to 1."""
        if step % self.every == 0:
            self.slow = _mixed(self.slow, self.fast, 0.95**self.every * progress**3)
            self.finish()

    def finish(self) -> None:
        """Let the slow weights replace the fast ones."""
        _assign(self.fast, self.slow)

    def shown(self) -> AbstractContextManager[None]:
        """The fast weights as they are: they were the slow ones a few steps ago."""
        return nullcontext()


class MovingAverage:
    """The exponential moving average of the weights; the run itself takes no notice of it (Polyak and Juditsky 1992).

    It remembers about `horizon` steps, and less at the beginning. A rate that stays high leaves the weights circling
    about a better place; their average is near it.
    """

    every, horizon = 10, 1000

    def __init__(self, variables: list[Any]) -> None:
        self.fast = variables
        self.slow = _copies(variables)

    def step(self, step: int, progress: float) -> None:
        """Called after each step, counted from 1; the progress does not matter."""
        if step % self.every == 0:
            taken = step // self.every
            self.slow = _mixed(self.slow, self.fast, min(1 - self.every / self.horizon, taken / (taken + 9)))

    def finish(self) -> None:
        """Let the average replace the weights."""
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
        variable.assign(ops.copy(value))  # JAX's step takes over the array that a variable holds
