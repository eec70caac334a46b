"""The training loop: steps, epochs, checkpoints, resume. It runs on any Keras backend."""

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

from contract.bundle import Bundle
from contract.errors import KernelscopeError, UsageError
from training import provenance
from training.data.augment import Batch
from training.data.dataset import Dataset
from training.data.jpeg import compress
from training.evaluation.calibrate import cross_entropy
from training.loop import checkpoint
from training.loop.batches import Batches
from training.loop.distillation import Distillation
from training.loop.progress import Log, Row, counting
from training.loop.signals import set_by_signals
from training.networks import architectures
from training.networks.normalisation import limit_momentum
from training.networks.warm_start import load_weights
from training.recipes import Recipe

CHECKPOINT_SECONDS: Final = 60.0
"""Seconds between two checkpoints within an epoch; there is also one at the end of each epoch."""
FEWEST_TO_JUDGE: Final = 40
"""A network that starts with a fitted head is trained only if so many images are held out for validation.

Of fewer, each one weighs more than the percentage points that fine-tuning gains or loses.
"""
_EVALUATION_BATCH: Final = 500
_EVALUATION_PIXELS: Final = 2**22
"""Pixels in a batch of evaluation at most: the first planes of a network take up to a kilobyte for each."""


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
    """

    epochs: int | None = None
    batch_size: int | None = None
    seed: int = 0
    time_budget: float | None = None
    precision: architectures.Precision | None = "float32"
    patience: int | None = None
    teacher: Bundle | None = None
    initial: Bundle | None = None


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
        return _best(self.history, has_start=self.start is not None)


def fit(recipe: Recipe, dataset: Dataset, options: Options, folder: Path, *, resume: bool, console: Console) -> Trained:
    """Train a recipe's network.

    Args:
        recipe: network, augmentation, optimiser and schedule.
        dataset: training and validation images.
        options: what differs from the recipe.
        folder: for checkpoints and logs.
        resume: whether to continue from the checkpoint in `folder`, if there is one.
        console: where progress is shown.

    Raises:
        UsageError: `folder` holds an unfinished run and `resume` is not set; it holds a run of another recipe, form of
            the recipe, dataset, seed or precision; it holds a finished run that is to be longer; another process writes
            to it; or the images are too small for the network.
        Interrupted: SIGINT or SIGTERM was received; the state has been saved.
        KernelscopeError: the loss is not finite; the last good checkpoint is kept.
    """
    with checkpoint.alone(folder):
        return _Run(recipe, dataset, options, folder, resume, console).run()


def precision_of(recipe: Recipe, options: Options) -> architectures.Precision:
    """Return what layers compute in."""
    return options.precision or recipe.precision or provenance.best_precision()


def predict(model: keras.Model, images: Batch) -> npt.NDArray[np.float32]:
    """Return logits, float32 (N, classes), of uint8 images (N, H, W, 3); computed in batches."""
    size = max(1, min(_EVALUATION_BATCH, _EVALUATION_PIXELS // (images.shape[1] * images.shape[2])))
    outputs = [
        np.asarray(model.predict_on_batch(images[i : i + size].astype(np.float32))) for i in range(0, len(images), size)
    ]
    return np.concatenate(outputs).astype(np.float32)


class _Run:
    def __init__(
        self, recipe: Recipe, dataset: Dataset, options: Options, folder: Path, resume: bool, console: Console
    ) -> None:
        self.recipe = recipe = recipe.suited(len(dataset.train), options.epochs, options.batch_size)
        self.dataset, self.folder, self.console = dataset, folder, console
        self.epochs, self.batch_size = recipe.epochs, recipe.batch_size
        self.patience = max(5, self.epochs // 3) if options.patience is None else options.patience
        self.stopped_early_at = 0  # the epoch at which patience ran out
        self.seed, self.budget = options.seed, options.time_budget
        self.origin: dict[str, Any] = {
            "precision": precision_of(recipe, options),
            "hardware": provenance.hardware(),
            "versions": provenance.versions(),
            "commit": provenance.commit(),  # at the start: files may change during the run, the loaded code does not
        }
        keras.utils.set_random_seed(options.seed)
        with architectures.precision(self.origin["precision"]):
            try:
                self.model = recipe.network.build(dataset.size, len(dataset.labels))
            except ValueError:  # from Keras, where pooling would make a side empty
                height, width = dataset.size
                raise UsageError(
                    f"images of {height}x{width} are too small for the recipe {recipe.name}: give a larger --size"
                ) from None
        self.distillation = Distillation(options.teacher, dataset) if options.teacher else None
        self.batches = Batches(dataset, recipe.augmentation, self.batch_size, self.seed, self.distillation)
        self.steps_per_epoch = self.batches.per_epoch
        saved, began = checkpoint.resume(folder, self._notes(), resume=resume), time.monotonic()
        self.start = _start_of(saved) if saved else self._prepare()
        if options.initial and not saved:
            load_weights(self.model, options.initial, dataset.train.images)
            self.start = None  # that was of other weights
        is_judged = options.epochs is not None or len(dataset.validation) >= FEWEST_TO_JUDGE
        self.stays = self.start is not None and not is_judged
        limit_momentum(self.model, self.epochs * self.steps_per_epoch)
        self.optimiser = recipe.optimiser.make()
        self.optimiser.build(self.model.trainable_variables)
        self.model.compile(
            self.optimiser,
            keras.losses.CategoricalCrossentropy(
                from_logits=True,
                # a teacher's targets are smooth already
                label_smoothing=0.0 if self.distillation else recipe.label_smoothing,
            ),
            metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        )
        self.averaging = recipe.averaging(self.model.weights) if recipe.averaging else None
        self.best = list[npt.NDArray[Any]]()  # the weights of the best epoch so far
        self.step, self.history = 0, list[Row]()
        self.seconds = time.monotonic() - began if self.start else 0.0
        self.sums = np.zeros(2)  # loss and accuracy of this epoch so far
        self.done = False
        self.stop = threading.Event()
        images, quality = dataset.validation.images, recipe.validation_quality
        self.compressed = compress(images[:], [quality] * len(images)) if quality else None
        if saved:
            self._restore(saved)

    def _prepare(self) -> architectures.Start | None:
        with counting(self.console, "preparing the network") as progress:
            by_class, transforms = self.batches.class_weights, self.recipe.augmentation
            return self.recipe.network.start(self.model, self.dataset, transforms, by_class, self.seed, progress)

    # --- the loop

    def run(self) -> Trained:
        if self.done:  # a finished run is resumed, to be exported
            return self._trained()
        started, saved = time.monotonic() - self.seconds, time.monotonic()
        with Log(self.folder, self.console, self.history) as log, set_by_signals(self.stop):
            if self.start and not self.history:  # training has to do better than this
                self._end_epoch(log)
                self._save()
                if self.stays:
                    self.console.print(
                        f"{len(self.dataset.validation)} validation images cannot tell whether fine-tuning helps: the "
                        "network stays as it is (--epochs 5: fine-tune all the same)",
                        highlight=False,
                        soft_wrap=True,
                    )
            if self.progress >= 1:  # it is resumed with fewer epochs or less time than it has had
                self._end(log)
                return self._trained()
            for x, y, weights in self.batches.following(self.step):
                self.optimiser.learning_rate = self._learning_rate()
                figures = np.array([float(v) for v in self.model.train_on_batch(x, y, weights)])
                if not np.isfinite(figures).all():
                    raise self._diverged(f"the loss is {figures[0]} at step {self.step + 1}")
                # Keras returns the mean since the metrics were reset: they are reset after each step
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
                epoch_ends = self.step % self.steps_per_epoch == 0
                if epoch_ends:
                    self._end_epoch(log)
                    self._stop_early()
                if epoch_ends or self.stop.is_set() or time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._save()
                    saved = time.monotonic()
                if self.stop.is_set():
                    raise Interrupted(f"stopped at step {self.step} and saved to {self.folder}")
        return self._trained()

    def _end(self, log: Log) -> None:
        """End the last epoch, however short it was, and take the weights of the best one."""
        if self.averaging:
            self.averaging.finish()
        if not self.history or self.history[-1]["step"] < self.step:
            self._end_epoch(log)
        _assign(self.model.weights, self.best)
        self.done = True
        self._save()

    def _trained(self) -> Trained:
        return Trained(
            model=self.model,
            history=self.history,
            seconds=self.seconds,
            batch_size=self.batch_size,
            class_weights=self.batches.class_weights,
            origin=self.origin,
            start=self.start,
        )

    @property
    def progress(self) -> float:
        """Progress from 0 to 1, by steps or by the time budget, whichever is further."""
        if self.stays:
            return 1.0
        by_steps = self.step / (self.epochs * self.steps_per_epoch)
        return min(1.0, max(by_steps, self.seconds / self.budget if self.budget else 0.0))

    def _learning_rate(self) -> float:
        return float(self.recipe.optimiser.learning_rate * self.recipe.schedule.at(self.progress))

    def _expected_steps(self) -> int:
        return max(self.step, math.ceil(self.step / self.progress)) if self.progress else 1

    def _note(self) -> str:
        steps = (self.step - 1) % self.steps_per_epoch + 1
        loss, accuracy = self.sums / steps if self.sums.any() else (0.0, 0.0)
        return f"epoch {self.step / self.steps_per_epoch:.1f}  loss {loss:.3f}  accuracy {accuracy:.1%}"

    def _end_epoch(self, log: Log) -> None:
        """Evaluate on the validation images, with the class weights of the loss."""
        steps, sums = (self.step - 1) % self.steps_per_epoch + 1, self.sums
        if self.start and not self.step:
            steps, sums = 1, np.array([self.start.loss, self.start.accuracy])
        targets, by_class = self.dataset.validation.targets, self.batches.class_weights
        counts = None if by_class is None else by_class[targets]
        with self.averaging.shown() if self.averaging else nullcontext():
            logits = predict(self.model, self.dataset.validation.images)
            if not np.isfinite(logits).all():
                raise self._diverged(f"the network's logits are not finite at step {self.step}")
            loss = round(cross_entropy(logits, targets, counts=counts), 6)
            accuracy = round(float(np.average(logits.argmax(1) == targets, weights=counts)), 6)
            jpeg = None
            if self.compressed is not None:
                is_right = predict(self.model, self.compressed).argmax(1) == targets
                jpeg = round(float(np.average(is_right, weights=counts)), 6)
            figures = {"validation_loss": loss, "validation_accuracy": accuracy, "validation_jpeg_accuracy": jpeg}
            row: Row = {
                "epoch": math.ceil(self.step / self.steps_per_epoch),
                "step": self.step,
                "loss": round(float(sums[0]) / steps, 6),
                "accuracy": round(float(sums[1]) / steps, 6),
                **figures,
                "learning_rate": round(self._learning_rate(), 8),
                "seconds": round(self.seconds, 2),
            }
            self.history.append(row)
            if _best(self.history, has_start=self.start is not None) is row:
                self.best = _arrays(self.model.weights)
        self.sums = np.zeros(2)
        log.epoch(row, self.epochs)

    def _stop_early(self) -> None:
        """After `patience` epochs without improvement, let the run end soon, its schedule included."""
        # by accuracy alone: once all images are classified correctly, the loss still falls
        figures = [_criterion(row) for row in self.history]
        since = len(figures) - 1 - figures.index(max(figures))
        end = self.history[-1]["epoch"] + max(1, self.patience // 3)
        if self.patience and not self.stopped_early_at and since >= self.patience and end < self.epochs:
            self.stopped_early_at = self.history[-1]["epoch"]
            self.epochs = end
            self.console.print(f"no improvement for {since} epochs: the run ends at epoch {end}", highlight=False)

    # --- state

    def _notes(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.name,
            "data": self.dataset.checksum,
            "images": [len(self.dataset.train), len(self.dataset.validation)],
            "size": list(self.dataset.size),
            "resize_mode": self.dataset.resize_mode,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "teacher": self.distillation.checksum if self.distillation else None,
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
        if self.start:
            arrays["start"] = [self.start.logits, self.start.targets]
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            "sums": self.sums.tolist(),
            "stopped_early_at": self.stopped_early_at,
            "epochs": self.epochs,
            "done": self.done,
            "origin": self.origin,
        }
        groups = {name: _arrays(group) for name, group in arrays.items()}
        if not all(np.isfinite(weights).all() for weights in groups["weights"]):  # the loss is from before the step
            raise self._diverged(f"the weights are not finite after step {self.step}")
        checkpoint.Checkpoint(groups, {**self._notes(), **state}).write(self.folder)

    def _restore(self, saved: checkpoint.Checkpoint) -> None:
        """Restore the state of a run."""
        notes = saved.notes
        _assign(self.model.weights, saved.arrays["weights"])
        _assign(self.optimiser.variables, saved.arrays["optimiser"])
        if self.averaging:
            self.averaging.slow = [keras.ops.convert_to_tensor(value) for value in saved.arrays["slow"]]
        self.best = saved.arrays.get("best") or saved.arrays["weights"]  # in the first epoch there is no best one yet
        _assign(_draws(self.model), saved.arrays.get("draws", []))
        self.step, self.seconds, self.history = notes["step"], notes["seconds"], notes["history"]
        self.sums, self.done = np.array(notes["sums"]), notes["done"]
        self.stopped_early_at = notes["stopped_early_at"]
        if self.stopped_early_at:
            self.epochs = notes["epochs"]
        self.origin, now = notes["origin"], self.origin
        if self.done and self.progress < 1:  # its schedule has ended, and the best weights replaced the last ones
            raise UsageError(
                f"{self.folder} holds a finished run of {self.history[-1]['epoch']} epochs, which cannot be continued: "
                "give another --run for a longer one, or no more --epochs and --time-budget than it had"
            )
        if not self.done:
            for key in ("hardware", "commit"):
                if not self.origin[key].endswith(now[key]):
                    self.origin[key] += f", then {now[key]}"
        self.console.print(f"resuming at step {self.step}, after {self.seconds:.0f} s of training", highlight=False)

    def _diverged(self, problem: str) -> KernelscopeError:
        kept = f"; the last good checkpoint is in {self.folder}" if (self.folder / checkpoint.FILE).is_file() else ""
        return KernelscopeError(f"{problem}{kept}: lower the learning rate or raise --batch-size")


def _best(history: list[Row], *, has_start: bool) -> Row:
    """Return the epoch whose weights are kept; a later one if several are equal.

    Fine-tuning of a network with a fitted head takes few epochs and few validation images. To choose between the epochs
    by these adds noise, and the last ones, at the lowest learning rates, are the better ones: kept is the last epoch
    that is no worse than the start. On 640 images of flowers, in two folds, the last of six epochs classified 95.2 %
    correctly, the one with the highest validation accuracy 93.9 %, the start 92.8 %.
    """
    if has_start:
        return next(row for row in reversed(history) if _rank(row) >= _rank(history[0]))
    return max(reversed(history), key=_rank)


def _rank(row: Row) -> tuple[float, float]:
    """Return what the best epoch is chosen by; of equal accuracies the one with the lower loss."""
    return _criterion(row), -row["validation_loss"]


def _start_of(saved: checkpoint.Checkpoint) -> architectures.Start | None:
    arrays = saved.arrays.get("start")
    return architectures.Start(*arrays) if arrays else None


def _criterion(row: Row) -> float:
    """Return what the best epoch is chosen by: validation accuracy, and its mean with that on JPEG if measured."""
    jpeg = row.get("validation_jpeg_accuracy")
    accuracy: float = row["validation_accuracy"]
    return accuracy if jpeg is None else (accuracy + jpeg) / 2


def _draws(model: keras.Model) -> list[Any]:
    """Return the random states of dropout layers, which Keras does not count among a model's weights."""
    return [layer.seed_generator.state for layer in model.layers if isinstance(layer, keras.layers.Dropout)]


def _arrays(variables: list[Any]) -> list[npt.NDArray[Any]]:
    # copies: on a CPU, a backend's array may share memory with its variable
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _assign(variables: list[Any], values: list[npt.NDArray[Any]]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
