"""The loop: steps, epochs, checkpoints, resume. It runs on any Keras backend."""

from __future__ import annotations

import math
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
from rich.console import Console

from contract import bundle
from contract.errors import KernelscopeError, UsageError
from training import provenance
from training.data.augment import Batch
from training.data.dataset import Dataset
from training.data.jpeg import compress
from training.evaluation.calibrate import cross_entropy
from training.loop import checkpoint
from training.loop.batches import Batches
from training.loop.distillation import Teacher
from training.loop.progress import Log, Row
from training.loop.signals import set_by_signals
from training.networks import architectures
from training.networks.normalisation import limit_momentum
from training.recipes import Recipe

CHECKPOINT_SECONDS: Final = 60.0
"""A run that is killed loses at most about this much, and never more than an epoch."""
_EVALUATION_BATCH: Final = 500


class Interrupted(KernelscopeError):
    """The run was asked to stop; it has been saved and can go on."""

    exit_code = 130


@dataclass(frozen=True)
class Options:
    """What a run may set.

    Attributes:
        epochs, batch_size: the recipe's own where None, as `Recipe.suited` brings them to the data.
        seed: of initial weights, order and augmentation.
        time_budget: seconds in which the run shall end, None for no limit. The schedule follows whichever is further,
            the epochs or the clock, so that a run that is cut short has still come down to its last, lowest rate.
        precision: what layers compute in.
        patience: epochs without a better one after which the rate comes down to its end and the run stops; a third of
            the epochs, 5 at least, where None; 0 for never.
        teacher: a bundle whose answers are learnt, together with the labels.
    """

    epochs: int | None = None
    batch_size: int | None = None
    seed: int = 0
    time_budget: float | None = None
    precision: architectures.Precision = "float32"
    patience: int | None = None
    teacher: bundle.Bundle | None = None


@dataclass(frozen=True)
class Trained:
    """A run's end.

    Attributes:
        model: with the weights of the best epoch.
        history: one row an epoch.
        seconds: how long it computed in all, pauses left out.
        batch_size: images a step.
        class_weights: by class, where they were not the same for all.
        origin: precision, hardware, versions and commit of the training, whoever takes it up afterwards.
    """

    model: keras.Model
    history: list[Row]
    seconds: float
    batch_size: int
    class_weights: npt.NDArray[np.float32] | None
    origin: dict[str, Any]


def fit(recipe: Recipe, data: Dataset, options: Options, folder: Path, *, resume: bool, console: Console) -> Trained:
    """Train a recipe's network.

    Args:
        recipe: what to do.
        data: where the training and validation images come from.
        options: what differs from the recipe.
        folder: for checkpoints and logs.
        resume: go on from the checkpoint in `folder`, if there is one.
        console: where progress is shown.

    Raises:
        UsageError: `folder` holds an unfinished run and `resume` is not set, or one of another recipe, form of the
            recipe, data, seed or precision, or a finished one that is to be longer; or another process writes to it; or
            the images are too small for the network.
        Interrupted: SIGINT or SIGTERM came; the state has been saved.
        KernelscopeError: the loss is no number any more; the last good checkpoint is kept.
    """
    with checkpoint.alone(folder):
        return _Run(recipe, data, options, folder, resume, console).run()


def predict(model: keras.Model, images: Batch) -> npt.NDArray[np.float32]:
    """Logits, float32 (N, classes), of uint8 images (N, H, W, 3); computed in batches."""
    outputs = [
        np.asarray(model.predict_on_batch(images[i : i + _EVALUATION_BATCH].astype(np.float32)))
        for i in range(0, len(images), _EVALUATION_BATCH)
    ]
    return np.concatenate(outputs).astype(np.float32)


class _Run:
    def __init__(
        self, recipe: Recipe, data: Dataset, options: Options, folder: Path, resume: bool, console: Console
    ) -> None:
        self.recipe = recipe = recipe.suited(len(data.train), options.epochs, options.batch_size)
        self.data, self.folder, self.console = data, folder, console
        self.epochs, self.batch_size = recipe.epochs, recipe.batch_size
        self.patience = max(5, self.epochs // 3) if options.patience is None else options.patience
        self.stalled = 0  # the epoch at which patience ran out
        self.seed, self.budget = options.seed, options.time_budget
        self.origin: dict[str, Any] = {
            "precision": options.precision,
            "hardware": provenance.hardware(),
            "versions": provenance.versions(),
            "commit": provenance.commit(),  # now: files may change while the run goes on, the code that runs does not
        }
        keras.utils.set_random_seed(options.seed)
        with architectures.precision(options.precision):
            try:
                self.model = recipe.network.build(data.size, len(data.labels))
            except ValueError:  # Keras', where pooling leaves nothing of a side
                height, width = data.size
                raise UsageError(
                    f"images of {height}x{width} are too small for the recipe {recipe.name}: give a larger --size"
                ) from None
        self.teacher = Teacher(options.teacher, data) if options.teacher else None
        self.batches = Batches(data, recipe.augmentation, self.batch_size, self.seed, self.teacher)
        self.steps_an_epoch = self.batches.an_epoch
        architectures.whiten(self.model, data.train.images)
        limit_momentum(self.model, self.epochs * self.steps_an_epoch)
        self.optimiser = recipe.optimiser.make()
        self.optimiser.build(self.model.trainable_variables)
        self.model.compile(
            self.optimiser,
            keras.losses.CategoricalCrossentropy(
                from_logits=True,
                label_smoothing=0.0 if self.teacher else recipe.label_smoothing,  # a teacher's targets are soft
            ),
            metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        )
        self.averaging = recipe.averaging(self.model.weights) if recipe.averaging else None
        self.best = list[npt.NDArray[Any]]()  # the weights of the best epoch so far
        self.step, self.seconds, self.history = 0, 0.0, list[Row]()
        self.sums = np.zeros(2)  # loss and accuracy of this epoch so far
        self.done = False
        self.stop = threading.Event()
        held_out, quality = data.validation.images, recipe.validation_quality
        self.compressed = compress(held_out[:], [quality] * len(held_out)) if quality else None
        self._take_up(resume)

    # --- the loop

    def run(self) -> Trained:
        if self.done:  # a finished run is taken up: what comes after it can be done again
            return self._trained()
        started, saved = time.monotonic() - self.seconds, time.monotonic()
        with Log(self.folder, self.console, self.history) as log, set_by_signals(self.stop):
            if self.progress >= 1:  # it is taken up for fewer epochs, or less time, than it has had
                self._end(log)
                return self._trained()
            for x, y, weights in self.batches.following(self.step):
                self.optimiser.learning_rate = self.recipe.optimiser.rate * self.recipe.schedule.at(self.progress)
                figures = np.array([float(v) for v in self.model.train_on_batch(x, y, weights)])
                if not np.isfinite(figures).all():
                    raise self._diverged(f"the loss is {figures[0]} at step {self.step + 1}")
                # Keras returns the running mean since the metrics were reset; the reset is ours, at each step
                self.model.reset_metrics()
                self.sums += figures
                self.step += 1
                self.seconds = time.monotonic() - started
                if self.averaging:
                    self.averaging.step(self.step, self.progress)
                log.step(self.step, self._expected_steps(), self._note())
                if self.progress >= 1:
                    self._end(log)
                    break
                epoch_ends = self.step % self.steps_an_epoch == 0
                if epoch_ends:
                    self._end_epoch(log)
                    self._come_down_if_stalled()
                if epoch_ends or self.stop.is_set() or time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._save()
                    saved = time.monotonic()
                if self.stop.is_set():
                    raise Interrupted(f"stopped at step {self.step} and saved to {self.folder}")
        return self._trained()

    def _end(self, log: Log) -> None:
        """The last epoch is over, however short it was: what stays are the weights of the best one."""
        if self.averaging:
            self.averaging.finish()
        if not self.history or self.history[-1]["step"] < self.step:
            self._end_epoch(log)
        _assign(self.model.weights, self.best)
        self.done = True
        self._save()

    def _trained(self) -> Trained:
        return Trained(self.model, self.history, self.seconds, self.batch_size, self.batches.class_weights, self.origin)

    @property
    def progress(self) -> float:
        """How far the run is, from 0 to 1, by its steps or by its time budget, whichever is further."""
        by_steps = self.step / (self.epochs * self.steps_an_epoch)
        return min(1.0, max(by_steps, self.seconds / self.budget if self.budget else 0.0))

    def _expected_steps(self) -> int:
        return max(self.step, math.ceil(self.step / self.progress)) if self.progress else 1

    def _note(self) -> str:
        steps = (self.step - 1) % self.steps_an_epoch + 1
        loss, accuracy = self.sums / steps if self.sums.any() else (0.0, 0.0)
        return f"epoch {self.step / self.steps_an_epoch:.1f}  loss {loss:.3f}  accuracy {accuracy:.1%}"

    def _end_epoch(self, log: Log) -> None:
        """Look at the held-out images; classes count there as they do in the loss."""
        steps = (self.step - 1) % self.steps_an_epoch + 1
        targets, by_class = self.data.validation.targets, self.batches.class_weights
        counts = None if by_class is None else by_class[targets]
        with self.averaging.shown() if self.averaging else nullcontext():
            logits = predict(self.model, self.data.validation.images)
            if not np.isfinite(logits).all():
                raise self._diverged(f"the network's answers are no numbers any more at step {self.step}")
            loss = round(cross_entropy(logits, targets, counts=counts), 6)
            accuracy = round(float(np.average(logits.argmax(1) == targets, weights=counts)), 6)
            jpeg = None
            if self.compressed is not None:
                right = predict(self.model, self.compressed).argmax(1) == targets
                jpeg = round(float(np.average(right, weights=counts)), 6)
            figures = {"validation_loss": loss, "validation_accuracy": accuracy, "validation_jpeg_accuracy": jpeg}
            if all((_figure(figures), -loss) >= (_figure(row), -row["validation_loss"]) for row in self.history):
                self.best = _arrays(self.model.weights)
        row: Row = {
            "epoch": math.ceil(self.step / self.steps_an_epoch),
            "step": self.step,
            "loss": round(float(self.sums[0]) / steps, 6),
            "accuracy": round(float(self.sums[1]) / steps, 6),
            **figures,
            "rate": round(float(self.recipe.optimiser.rate * self.recipe.schedule.at(self.progress)), 8),
            "seconds": round(self.seconds, 2),
        }
        self.history.append(row)
        self.sums = np.zeros(2)
        log.epoch(row, self.epochs)

    def _come_down_if_stalled(self) -> None:
        """Where no epoch was better for as long as patience lasts, let the run end soon, its schedule included."""
        # by accuracy alone: where all are right, the loss goes on falling for as long as one likes
        figures = [_figure(row) for row in self.history]
        since = len(figures) - 1 - figures.index(max(figures))
        end = self.history[-1]["epoch"] + max(1, self.patience // 3)
        if self.patience and not self.stalled and since >= self.patience and end < self.epochs:
            self.stalled = self.history[-1]["epoch"]
            self.epochs = end
            self.console.print(f"no better for {since} epochs: the run ends at epoch {end}", highlight=False)

    # --- state

    def _notes(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.name,
            "data": self.data.checksum,
            "images": [len(self.data.train), len(self.data.validation)],
            "size": list(self.data.size),
            "resize_mode": self.data.resize_mode,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "teacher": self.teacher.checksum if self.teacher else None,
            "precision": self.origin["precision"],
            "form": self.recipe.form(),
        }

    def _save(self) -> None:
        arrays = {
            "weights": self.model.weights,
            "optimiser": self.optimiser.variables,
            "best": self.best,
            "draws": _draws(self.model),
        }
        if self.averaging:
            arrays["slow"] = self.averaging.slow
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            "sums": self.sums.tolist(),
            "stalled": self.stalled,
            "epochs": self.epochs,
            "done": self.done,
            "origin": self.origin,
        }
        groups = {name: _arrays(group) for name, group in arrays.items()}
        if not all(np.isfinite(weights).all() for weights in groups["weights"]):  # a loss tells of a step's beginning
            raise self._diverged(f"the weights are no numbers any more after step {self.step}")
        checkpoint.Checkpoint(groups, {**self._notes(), **state}).write(self.folder)

    def _take_up(self, resume: bool) -> None:
        found = checkpoint.take_up(self.folder, self._notes(), resume=resume)
        if found is None:
            return
        notes = found.notes
        _assign(self.model.weights, found.arrays["weights"])
        _assign(self.optimiser.variables, found.arrays["optimiser"])
        if self.averaging:
            self.averaging.slow = [keras.ops.convert_to_tensor(value) for value in found.arrays["slow"]]
        self.best = found.arrays.get("best") or found.arrays["weights"]  # there is no best one in the first epoch
        _assign(_draws(self.model), found.arrays.get("draws", []))
        self.step, self.seconds, self.history = notes["step"], notes["seconds"], notes["history"]
        self.sums, self.done = np.array(notes["sums"]), notes["done"]
        self.stalled = notes["stalled"]
        if self.stalled:
            self.epochs = notes["epochs"]
        self.origin, now = notes["origin"], self.origin
        if self.done and self.progress < 1:  # its rate has come down, and what stays are the weights of its best epoch
            raise UsageError(
                f"{self.folder} holds a finished run of {self.history[-1]['epoch']} epochs, which cannot go on: give "
                "another --run for a longer one, or no more --epochs and --time-budget than it had"
            )
        if not self.done:
            for key in ("hardware", "commit"):
                if not self.origin[key].endswith(now[key]):
                    self.origin[key] += f", then {now[key]}"
        self.console.print(f"resuming at step {self.step}, after {self.seconds:.0f} s of training", highlight=False)

    def _diverged(self, what: str) -> KernelscopeError:
        kept = f"; the last good checkpoint is in {self.folder}" if (self.folder / checkpoint.FILE).is_file() else ""
        return KernelscopeError(f"{what}{kept}: lower the learning rate or raise --batch-size")


def _figure(row: Row) -> float:
    """What an epoch is judged by: its accuracy on held-out images, and on these as JPEG where the recipe says so."""
    jpeg = row.get("validation_jpeg_accuracy")
    accuracy: float = row["validation_accuracy"]
    return accuracy if jpeg is None else (accuracy + jpeg) / 2


def _draws(model: keras.Model) -> list[Any]:
    """The states of what draws in the graph, which Keras does not count among a model's weights: dropout's."""
    return [layer.seed_generator.state for layer in model.layers if isinstance(layer, keras.layers.Dropout)]


def _arrays(variables: list[Any]) -> list[npt.NDArray[Any]]:
    # copies: on a CPU, what a backend hands out may share memory with the variable, which goes on changing
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _assign(variables: list[Any], values: list[npt.NDArray[Any]]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
