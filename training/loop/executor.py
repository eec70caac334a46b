"""How steps are run: one by one with batches that the host makes, or many in one call on a device."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import keras
import numpy as np
import numpy.typing as npt

from contract.errors import UsageError
from training import optimisers, provenance
from training.data import augment_on_device
from training.loop.batches import Batches

Kind = Literal["host", "resident", "streamed"]
KINDS: Final[tuple[Kind, ...]] = ("host", "resident", "streamed")
RESIDENT: Final = 0.25
"""Part of a device's memory that the training images may take; the rest is the network's."""


@dataclass(frozen=True)
class Point:
    """Where a step stands in a run.

    Attributes:
        learning_rate: of the step.
        progress: of the run after it, from 0 to 1.
    """

    learning_rate: float
    progress: float


class Executor(Protocol):
    """Runs the steps of a training, which change the model, its optimiser and the averaged weights.

    Attributes:
        pace: seconds a step took in the last call; 0 while that is not known, or one step is a call.
        saves_each_epoch: whether a checkpoint at the end of each epoch is cheap beside the epoch.
    """

    pace: float
    saves_each_epoch: bool

    def most(self, step: int) -> int:
        """Return how many steps a call may run from `step` on, which is counted from 0."""

    def run(self, step: int, points: list[Point]) -> npt.NDArray[np.float64]:
        """Run one step for each point, from `step` on; return the sums of their losses and accuracies, (2,)."""

    def close(self) -> None:
        """Stop making batches."""


class Host:
    """One step a call: the host makes the batch and hands it to Keras, on any backend.

    Args:
        model: compiled.
        averaging: what follows the weights; None for nothing.
        batches: the run's.
    """

    pace = 0.0
    saves_each_epoch = True

    def __init__(self, model: keras.Model, averaging: optimisers.Averaging | None, batches: Batches) -> None:
        self._model, self._averaging, self._batches = model, averaging, batches
        self._following: Generator[Any] | None = None

    def most(self, step: int) -> int:
        """Return 1."""
        return 1

    def run(self, step: int, points: list[Point]) -> npt.NDArray[np.float64]:
        """Run one step."""
        (point,) = points
        if self._following is None:
            self._following = self._batches.following(step)
        x, y, weights = next(self._following)
        self._model.optimizer.learning_rate = point.learning_rate
        figures = np.array([float(value) for value in self._model.train_on_batch(x, y, weights)])
        # Keras returns the mean since the metrics were reset: they are reset after each step
        self._model.reset_metrics()
        if self._averaging:
            self._averaging.step(step + 1, point.progress)
        return figures

    def close(self) -> None:
        """Stop making batches."""
        if self._following is not None:
            self._following.close()


def choose(wanted: Kind | None, batches: Batches) -> Kind:
    """Return how a run's steps are run.

    Args:
        wanted: what the user asks for; None: on JAX with a GPU `resident` if the training images fit into its memory
            and no transform is the host's, else `streamed`; in all other cases `host`.
        batches: the run's.

    Raises:
        UsageError: that is not possible.
    """
    is_jax = keras.backend.backend() == "jax"
    on_host = [type(transform).__name__ for transform in batches.transforms if not augment_on_device.can(transform)]
    if wanted in {"resident", "streamed"}:
        if not is_jax:
            raise UsageError(f"the executor {wanted} needs JAX: set KERAS_BACKEND=jax, or leave --executor out")
        if batches.is_distilled:
            raise UsageError(f"a teacher answers on the host: leave --executor {wanted} out")
        if wanted == "resident" and on_host:
            raise UsageError(f"{', '.join(on_host)} is done by the host: give --executor streamed")
    if wanted:
        return wanted
    if not is_jax or batches.is_distilled or not provenance.accelerator():
        return "host"
    fits = batches.images_size <= RESIDENT * provenance.device_memory()
    return "resident" if fits and not on_host else "streamed"


def make(
    kind: Kind,
    model: keras.Model,
    loss: keras.losses.Loss,
    averaging: optimisers.Averaging | None,
    batches: Batches,
) -> Executor:
    """Make an executor.

    Args:
        kind: see `choose`.
        model: compiled with `loss`.
        loss: of target probabilities and logits.
        averaging: what follows the weights; None for nothing.
        batches: the run's.
    """
    if kind == "host":
        return Host(model, averaging, batches)
    from training.loop.device import Device  # imports JAX

    return Device(model, loss, averaging, batches, is_resident=kind == "resident")
