"""The training loop: steps, epochs, checkpoints, resume. It runs on any Keras backend."""

from __future__ import annotations

import math
import threading
import time
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from rich.console import Console

from contract.errors import KernelscopeError, UsageError
from training import provenance
from training.data.dataset import Dataset
from training.loop import checkpoint, executor, parallel, state, validation
from training.loop.batches import Batches
from training.loop.distillation import Distillation
from training.loop.executor import Point
from training.loop.options import Interrupted, Options, Trained, precision_of
from training.loop.progress import Log, Row, counting
from training.loop.signals import set_by_signals
from training.loop.state import State
from training.loop.validation import NotFiniteError, Validation, predict
from training.networks import architectures
from training.networks.normalisation import limit_momentum
from training.networks.warm_start import load_weights
from training.recipes import Recipe

__all__ = ["Interrupted", "Options", "Trained", "fit", "precision_of", "predict"]

CHECKPOINT_SECONDS: Final = 60.0
"""Seconds between two checkpoints within an epoch.

There is also one at the end of each epoch, unless a device does many steps a call: then that would take longer than an
epoch.
"""
FEWEST_TO_JUDGE: Final = 40
"""A network that starts with a fitted head is trained only if so many images are held out for validation.

Of fewer, each one weighs more than the percentage points that fine-tuning gains or loses.
"""


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
    recipe = recipe.suited(len(dataset.train), options.epochs, options.batch_size)
    with checkpoint.alone(folder), parallel.shared(recipe.batch_size):
        return _Run(recipe, dataset, options, folder, resume, console).run()


class _Run:
    def __init__(
        self, recipe: Recipe, dataset: Dataset, options: Options, folder: Path, resume: bool, console: Console
    ) -> None:
        self.recipe, self.dataset, self.folder, self.console = recipe, dataset, folder, console
        self.patience = max(5, recipe.epochs // 3) if options.patience is None else options.patience
        self.seed, self.budget = options.seed, options.time_budget
        origin: dict[str, Any] = {
            "precision": precision_of(recipe, options),
            "hardware": provenance.hardware(),
            "versions": provenance.versions(),
            "commit": provenance.commit(),  # at the start: files may change during the run, the loaded code does not
        }
        self.state = State(recipe.epochs, origin)
        keras.utils.set_random_seed(options.seed)
        with architectures.precision(origin["precision"]):
            try:
                self.model = recipe.network.build(dataset.size, len(dataset.labels))
            except ValueError:  # from Keras, where pooling would make a side empty
                height, width = dataset.size
                raise UsageError(
                    f"images of {height}x{width} are too small for the recipe {recipe.name}: give a larger --size"
                ) from None
        self.distillation = Distillation(options.teacher, dataset) if options.teacher else None
        self.batches = Batches(dataset, recipe.augmentation, recipe.batch_size, self.seed, self.distillation)
        self.steps_per_epoch = self.batches.per_epoch
        kind = executor.choose(options.executor, self.batches)
        saved, began = checkpoint.resume(folder, self._notes(), resume=resume), time.monotonic()
        self.start = state.start_of(saved) if saved else self._prepare()
        if options.initial and not saved:
            load_weights(self.model, options.initial, dataset.train.images)
            self.start = None  # that was of other weights
        is_judged = options.epochs is not None or len(dataset.validation) >= FEWEST_TO_JUDGE
        self.stays = self.start is not None and not is_judged
        limit_momentum(self.model, recipe.epochs * self.steps_per_epoch)
        loss = self._compile()
        self.averaging = recipe.averaging(self.model.weights) if recipe.averaging else None
        self.executor = executor.make(kind, self.model, loss, self.averaging, self.batches)
        self.state.seconds = time.monotonic() - began if self.start else 0.0
        self.stop = threading.Event()
        self.validation = Validation(dataset.validation, self.batches.class_weights, recipe.validation_quality)
        if saved:
            self._restore(saved)

    def _compile(self) -> keras.losses.Loss:
        optimiser = self.recipe.optimiser.make()
        optimiser.build(self.model.trainable_variables)
        # a teacher's targets are smooth already
        smoothing = 0.0 if self.distillation else self.recipe.label_smoothing
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
        self.model.compile(optimiser, loss, metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")])
        return loss

    def _prepare(self) -> architectures.Start | None:
        with counting(self.console, "preparing the network") as progress:
            by_class, transforms = self.batches.class_weights, self.recipe.augmentation
            return self.recipe.network.start(self.model, self.dataset, transforms, by_class, self.seed, progress)

    # --- the loop

    def run(self) -> Trained:
        if self.state.done:  # a finished run is resumed, to be exported
            return self._trained()
        with (
            Log(self.folder, self.console, self.state.history) as log,
            set_by_signals(self.stop),
            closing(self.executor),
        ):
            if self.start and not self.state.history:  # training has to do better than this
                self._end_epoch(log)
                self._save()
                if self.stays:
                    self.console.print(
                        f"{len(self.dataset.validation)} validation images cannot tell whether fine-tuning helps: the "
                        "network stays as it is (--epochs 5: fine-tune all the same)",
                        highlight=False,
                        soft_wrap=True,
                    )
            self._train(log)
            self._end(log)
        return self._trained()

    def _train(self, log: Log) -> None:
        """Run steps until the run's end, which may lie behind it already."""
        now, saved = self.state, time.monotonic()
        started = saved - now.seconds
        while self.progress < 1:
            points = self._points()
            figures = self.executor.run(now.step, points)
            now.step += len(points)
            if not np.isfinite(figures).all():
                raise self._diverged(f"the loss is {figures[0]} at step {now.step}")
            now.sums += figures
            now.seconds = time.monotonic() - started
            log.step(now.step, self._expected_steps(), self._note())
            if self.progress >= 1:
                return
            epoch_ends = now.step % self.steps_per_epoch == 0
            if epoch_ends:
                self._end_epoch(log)
                self._stop_early()
            is_due = epoch_ends and self.executor.saves_each_epoch
            if is_due or self.stop.is_set() or time.monotonic() - saved > CHECKPOINT_SECONDS:
                self._save()
                saved = time.monotonic()
            if self.stop.is_set():
                raise Interrupted(f"stopped at step {now.step} and saved to {self.folder}")

    def _points(self) -> list[Point]:
        """Return the steps of the next call: as many as the executor runs at once, none beyond the run's end."""
        step, seconds, pace = self.state.step, self.state.seconds, self.executor.pace
        points = list[Point]()
        for i in range(self.executor.most(step)):
            before = self._progress_at(step + i, seconds + i * pace)
            if points and before >= 1:
                break
            points.append(Point(self._learning_rate(before), self._progress_at(step + i + 1, seconds + (i + 1) * pace)))
        return points

    def _end(self, log: Log) -> None:
        """End the last epoch, however short it was, and take the weights of the best one."""
        if self.averaging:
            self.averaging.finish()
        if not self.state.history or self.state.history[-1]["step"] < self.state.step:
            self._end_epoch(log)
        state.assign(self.model.weights, self.state.best)
        self.state.done = True
        self._save()

    def _trained(self) -> Trained:
        return Trained(
            model=self.model,
            history=self.state.history,
            seconds=self.state.seconds,
            batch_size=self.recipe.batch_size,
            class_weights=self.batches.class_weights,
            origin=self.state.origin,
            start=self.start,
        )

    @property
    def progress(self) -> float:
        """Progress from 0 to 1, by steps or by the time budget, whichever is further."""
        return self._progress_at(self.state.step, self.state.seconds)

    def _progress_at(self, step: int, seconds: float) -> float:
        if self.stays:
            return 1.0
        by_steps = step / (self.state.epochs * self.steps_per_epoch)
        return min(1.0, max(by_steps, seconds / self.budget if self.budget else 0.0))

    def _learning_rate(self, progress: float) -> float:
        return float(self.recipe.optimiser.learning_rate * self.recipe.schedule.at(progress))

    def _expected_steps(self) -> int:
        step = self.state.step
        return max(step, math.ceil(step / self.progress)) if self.progress else 1

    def _note(self) -> str:
        step, sums = self.state.step, self.state.sums
        loss, accuracy = sums / ((step - 1) % self.steps_per_epoch + 1) if sums.any() else (0.0, 0.0)
        return f"epoch {step / self.steps_per_epoch:.1f}  loss {loss:.3f}  accuracy {accuracy:.1%}"

    def _end_epoch(self, log: Log) -> None:
        """Evaluate on the validation images, and keep the weights if this is the best epoch so far."""
        now = self.state
        steps, sums = (now.step - 1) % self.steps_per_epoch + 1, now.sums
        if self.start and not now.step:
            steps, sums = 1, np.array([self.start.loss, self.start.accuracy])
        with self.averaging.shown() if self.averaging else nullcontext():
            try:
                figures = self.validation.figures(self.model)
            except NotFiniteError as error:
                raise self._diverged(f"{error} at step {now.step}") from None
            row: Row = {
                "epoch": math.ceil(now.step / self.steps_per_epoch),
                "step": now.step,
                "loss": round(float(sums[0]) / steps, 6),
                "accuracy": round(float(sums[1]) / steps, 6),
                **figures,
                "learning_rate": round(self._learning_rate(self.progress), 8),
                "seconds": round(now.seconds, 2),
            }
            now.history.append(row)
            if validation.best(now.history, has_start=self.start is not None) is row:
                now.best = state.arrays(self.model.weights)
        now.sums = np.zeros(2)
        log.epoch(row, now.epochs)

    def _stop_early(self) -> None:
        """After `patience` epochs without improvement, let the run end soon, its schedule included."""
        # by accuracy alone: once all images are classified correctly, the loss still falls
        figures = [validation.criterion(row) for row in self.state.history]
        since = len(figures) - 1 - figures.index(max(figures))
        epoch = self.state.history[-1]["epoch"]
        end = epoch + max(1, self.patience // 3)
        if self.patience and not self.state.stopped_early_at and since >= self.patience and end < self.state.epochs:
            self.state.stopped_early_at, self.state.epochs = epoch, end
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
            "batch_size": self.recipe.batch_size,
            "teacher": self.distillation.checksum if self.distillation else None,
            "precision": self.state.origin["precision"],
            "form": self.recipe.form(),
        }

    def _save(self) -> None:
        groups = state.gather(self.model, self.averaging, self.start, self.state.best)
        if not all(np.isfinite(weights).all() for weights in groups["weights"]):  # the loss is from before the step
            raise self._diverged(f"the weights are not finite after step {self.state.step}")
        checkpoint.Checkpoint(groups, {**self._notes(), **self.state.notes()}).write(self.folder)

    def _restore(self, saved: checkpoint.Checkpoint) -> None:
        """Restore the state of a run."""
        state.scatter(saved.arrays, self.model, self.averaging)
        self.state.restore(saved)
        state.check_over(self.state, self.progress, self.folder)
        step, seconds = self.state.step, self.state.seconds
        self.console.print(f"resuming at step {step}, after {seconds:.0f} s of training", highlight=False)

    def _diverged(self, problem: str) -> KernelscopeError:
        kept = f"; the last good checkpoint is in {self.folder}" if (self.folder / checkpoint.FILE).is_file() else ""
        return KernelscopeError(f"{problem}{kept}: lower the learning rate or raise --batch-size")
