"""What a training is given beside its recipe, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from contract.bundle import Bundle
from contract.errors import KernelscopeError
from training import provenance
from training.loop import executor
from training.loop.progress import Row
from training.loop.validation import best
from training.networks import architectures
from training.recipes import Recipe


class Interrupted(KernelscopeError):
    """SIGINT or SIGTERM stopped the run; it has been saved and can be resumed."""

    exit_code = 130


@dataclass(frozen=True)
class Options:
    """What differs from the recipe.

    Attributes:
        epochs, batch_size: those of the recipe, adapted to the dataset by `Recipe.suited`, where None.
        seed: of initial weights, order and augmentation.
        time_budget: seconds after which the run ends, None for no limit. The schedule follows the epochs or the clock,
            whichever is further, so the learning rate reaches its final value in either case.
        precision: what layers compute in; None: that of the recipe, or else what is fastest on the machine.
        patience: epochs without improvement after which the run stops early, its schedule included; a third of the
            epochs, at least 5, where None; 0 disables it.
        teacher: a bundle to distil.
        initial: a float32 bundle of the same network, whose weights the training starts from.
        executor: how steps are run; None: as `training.loop.executor.choose` chooses.
    """

    epochs: int | None = None
    batch_size: int | None = None
    seed: int = 0
    time_budget: float | None = None
    precision: architectures.Precision | None = "float32"
    patience: int | None = None
    teacher: Bundle | None = None
    initial: Bundle | None = None
    executor: executor.Kind | None = None


@dataclass(frozen=True)
class Trained:
    """The result of a run.

    Attributes:
        model: the network with the weights of the best epoch.
        history: one row for each epoch.
        seconds: training time without pauses.
        batch_size: images a step.
        class_weights: float32 (classes,); None where all classes weigh the same.
        origin: precision, hardware, versions and commit of the training, which may differ from those of the export.
        start: what the network knew before its first step; None if it knew nothing.
    """

    model: keras.Model
    history: list[Row]
    seconds: float
    batch_size: int
    class_weights: npt.NDArray[np.float32] | None
    origin: dict[str, Any]
    start: architectures.Start | None = None

    @property
    def best(self) -> Row:
        """The epoch whose weights the model has."""
        return best(self.history, has_start=self.start is not None)


def precision_of(recipe: Recipe, options: Options) -> architectures.Precision:
    """Return what layers compute in; a recipe's own precision is that on a CPU."""
    own = None if provenance.accelerator() else recipe.precision
    return options.precision or own or provenance.best_precision()
