"""Optimisers, schedules and weight averaging: what moves the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Adam:
    """Kingma and Ba 2015, arXiv:1412.6980."""

    rate: float = 1e-3

    def make(self) -> keras.optimizers.Optimizer:
        """A fresh Keras Adam."""
        return keras.optimizers.Adam(self.rate)


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


class Lookahead:
    """A slow copy of all weights that follows the fast ones and now and then replaces them (arXiv:1907.08610).

    With the schedule of Jordan 2024: every five steps the slow copy takes a share of the fast weights, large at first
    and towards the end next to nothing, and at the end the slow copy is what stays.
    """

    every = 5

    def __init__(self, variables: list[Any]) -> None:
        self.fast = variables
        self.slow = [ops.copy(ops.convert_to_tensor(variable)) for variable in variables]

    def step(self, step: int, progress: float) -> None:
        """Called after each step, counted from 1, with the run's progress from 0 to 1."""
        if step % self.every == 0:
            keep = 0.95**self.every * progress**3
            self.slow = [keep * slow + (1 - keep) * fast.value for slow, fast in zip(self.slow, self.fast, strict=True)]
            self.finish()

    def finish(self) -> None:
        """Let the slow weights replace the fast ones."""
        for fast, slow in zip(self.fast, self.slow, strict=True):
            fast.assign(slow)
