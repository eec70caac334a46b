"""The state of a run between two steps, and how it becomes a checkpoint and is read from one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from contract.errors import UsageError
from training import optimisers
from training.loop.checkpoint import Checkpoint
from training.loop.progress import Row
from training.networks.architectures import Start

Arrays = list[npt.NDArray[Any]]


@dataclass
class State:
    """How far a run is.

    Attributes:
        epochs: after which it ends.
        origin: precision, hardware, versions and commit.
        step: steps done.
        seconds: training time without pauses.
        history: a row for each epoch.
        best: the weights of the best epoch so far.
        sums: loss and accuracy of this epoch so far.
        stopped_early_at: the epoch at which patience ran out; 0 if it has not.
        done: whether the run has ended.
    """

    epochs: int
    origin: dict[str, Any]
    step: int = 0
    seconds: float = 0.0
    history: list[Row] = field(default_factory=list)
    best: Arrays = field(default_factory=list)
    sums: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    stopped_early_at: int = 0
    done: bool = False

    def notes(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            "sums": self.sums.tolist(),
            "stopped_early_at": self.stopped_early_at,
            "epochs": self.epochs,
            "done": self.done,
            "origin": self.origin,
        }

    def restore(self, saved: Checkpoint) -> None:
        """Take over what a checkpoint says, but the epochs that the run is to have, unless it was stopped early."""
        notes = saved.notes
        self.step, self.seconds, self.history = notes["step"], notes["seconds"], notes["history"]
        self.best = saved.arrays.get("best") or saved.arrays["weights"]  # in the first epoch there is no best one yet
        self.sums, self.done = np.array(notes["sums"]), notes["done"]
        self.stopped_early_at = notes["stopped_early_at"]
        if self.stopped_early_at:
            self.epochs = notes["epochs"]
        self.origin, now = notes["origin"], self.origin
        if not self.done:
            for key in ("hardware", "commit"):
                if not self.origin[key].endswith(now[key]):
                    self.origin[key] += f", then {now[key]}"


def check_over(state: State, progress: float, folder: Path) -> None:
    """Raise `UsageError` if a finished run would have to go on."""
    if state.done and progress < 1:  # its schedule has ended, and the best weights replaced the last ones
        raise UsageError(
            f"{folder} holds a finished run of {state.history[-1]['epoch']} epochs, which cannot be continued: "
            "give another --run for a longer one, or no more --epochs and --time-budget than it had"
        )


def gather(
    model: keras.Model, averaging: optimisers.Averaging | None, start: Start | None, best: Arrays
) -> dict[str, Arrays]:
    """Return everything that a run's variables hold, in groups by name."""
    groups = {
        "weights": arrays(model.weights),
        "optimiser": arrays(model.optimizer.variables),
        "best": best,
        "draws": arrays(_draws(model)),
    }
    if averaging:
        groups["slow"] = arrays(averaging.slow)
    if start:
        groups["start"] = [start.logits, start.targets]
    return groups


def scatter(groups: dict[str, Arrays], model: keras.Model, averaging: optimisers.Averaging | None) -> None:
    """Give the variables of a run what `gather` returned."""
    assign(model.weights, groups["weights"])
    assign(model.optimizer.variables, groups["optimiser"])
    if averaging:
        averaging.slow = [keras.ops.convert_to_tensor(value) for value in groups["slow"]]
    assign(_draws(model), groups.get("draws", []))


def start_of(saved: Checkpoint) -> Start | None:
    """Return what the network of a checkpoint knew before its first step."""
    arrays = saved.arrays.get("start")
    return Start(*arrays) if arrays else None


def arrays(variables: list[Any]) -> Arrays:
    """Return the values of variables."""
    # copies: on a CPU, a backend's array may share memory with its variable
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def assign(variables: list[Any], values: Arrays) -> None:
    """Give variables their values."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _draws(model: keras.Model) -> list[Any]:
    """Return the random states of dropout layers, which Keras does not count among a model's weights."""
    return [layer.seed_generator.state for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
