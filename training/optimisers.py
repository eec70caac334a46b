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
        grads = [self.taken(gradient, variable) for gradient, variable in zip(grads, variables, strict=True)]
        return super().apply(grads, trainable_variables)

    def taken(self, gradient: Any, variable: Any) -> Any:
        """A gradient as the step takes it."""
        return gradient * (self.offsets if variable.path.endswith("/beta") else 1.0) + variable * self.decay

    def get_config(self) -> dict[str, Any]:
        """The options, for saving."""
        return {**super().get_config(), "decay": self.decay, "offsets": self.offsets}


@dataclass(frozen=True)
class Muon(Nesterov):
    """`Nesterov` for all but the kernels, which take steps of one length in every direction.

    Their momentum, as a matrix of kernels by their values, is replaced by the nearest one that is orthogonal, and the
    kernels keep their norm (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"). What they
    compute does not change with their norm, which normalisation takes out.

    Attributes:
        kernels: the factor on the rate of the kernels, whose norm is the square root of their number; the published
            step, 0.24 for batches of 2,000, is 0.17 for 1,024.
        keep: the share of the kernels' last gradients that is kept.
    """

    kernels: float = 0.115
    keep: float = 0.6

    def make(self) -> keras.optimizers.Optimizer:
        """A fresh optimiser."""
        return OrthogonalSGD(
            self.rate,
            self.momentum,
            decay=self.decay,
            offsets=self.offsets,
            kernels=self.kernels,
            keep=self.keep,
        )

    def at_batch(self, factor: float) -> Muon:
        """With a rate in proportion, but for the kernels: steps of one length grow with the noise's square root."""
        return replace(self, rate=self.rate * factor, kernels=self.kernels / math.sqrt(factor))


@keras.saving.register_keras_serializable("kernelscope")
class OrthogonalSGD(GroupedSGD):
    """What `Muon` makes."""

    def __init__(self, learning_rate: float, momentum: float, *, kernels: float, keep: float, **options: Any) -> None:
        super().__init__(learning_rate, momentum, **options)
        self.kernels = kernels
        self.keep = keep

    def taken(self, gradient: Any, variable: Any) -> Any:
        """A gradient as the step takes it; kernels do not decay, for they keep their norm."""
        return gradient if _is_kernel(variable) else super().taken(gradient, variable)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One variable's step."""
        if not _is_kernel(variable):
            super().update_step(gradient, variable, learning_rate)
            return
        momentum = self.momentums[self._get_variable_index(variable)]
        kept = momentum * self.keep + gradient
        self.assign(momentum, kept)
        weights = ops.convert_to_tensor(variable)
        weights = weights * (math.sqrt(variable.shape[-1]) / ops.sqrt(ops.sum(weights * weights)))
        self.assign(variable, weights - learning_rate * self.kernels * orthogonal(gradient + self.keep * kept))

    def get_config(self) -> dict[str, Any]:
        """The options, for saving."""
        return {**super().get_config(), "kernels": self.kernels, "keep": self.keep}


def _is_kernel(variable: Any) -> bool:
    """Whether it is a convolution's (height, width, channels, kernels): nothing else has four axes."""
    return len(variable.shape) == 4


def orthogonal(kernel: Any, iterations: int = 3) -> Any:
    """About the nearest (height, width, channels, kernels) whose kernels are orthogonal and of norm one.

    By Newton and Schulz's iteration with the coefficients of Jordan et al. 2024, which bring singular values near one
    and stop there: more exact is no better.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = ops.reshape(kernel, (-1, kernel.shape[-1]))
    wide = x.shape[0] < x.shape[1]
    x = x / (ops.sqrt(ops.sum(x * x)) + 1e-7)
    x = x if wide else ops.transpose(x)  # rows are the fewer: their products are the smaller matrix
    for _ in range(iterations):
        square = ops.matmul(x, ops.transpose(x))
        x = a * x + ops.matmul(b * square + c * ops.matmul(square, square), x)
    return ops.reshape(x if wide else ops.transpose(x), kernel.shape)


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
