from __future__ import annotations

import csv
import dataclasses
import io
import os
import signal
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from rich.console import Console

from contract.errors import DataError, KernelscopeError, UsageError
from tests.support.images import class_folder
from tests.support.models import colour_bundle
from tests.support.recipes import TINY
from training import optimisers
from training.data import augment
from training.data import dataset as datasets
from training.data.dataset import Dataset
from training.data.jpeg import compress
from training.data.split import Split
from training.loop import batches, checkpoint, trainer
from training.networks import architectures
from training.recipes import SEED, Recipe


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("data")
        patch.setenv("KERNELSCOPE_CACHE", str(root / "cache"))
        return datasets.load(str(class_folder(root / "colours", each=20)))


def train(
    folder: Path, dataset: Dataset, recipe: Recipe = TINY, *, resume: bool = False, **options: Any
) -> trainer.Trained:
    console = Console(file=io.StringIO())
    return trainer.fit(recipe, dataset, trainer.Options(**options), folder, resume=resume, console=console)


def stop_at(patch: pytest.MonkeyPatch, at: int, averaging: type[optimisers.Averaging] = optimisers.Lookahead) -> None:
    """Let a SIGINT come during that step."""
    step = averaging.step

    def stop_here(self: optimisers.Averaging, number: int, progress: float) -> None:
        step(self, number, progress)
        if number == at:
            os.kill(os.getpid(), signal.SIGINT)

    patch.setattr(averaging, "step", stop_here)


def weights(trained: trainer.Trained) -> list[np.ndarray]:
    return [np.asarray(keras.ops.convert_to_numpy(variable)) for variable in trained.model.weights]


def test_it_learns_and_logs(tmp_path: Path, dataset: Dataset) -> None:
    # at TINY's own learning rate, how a processor rounds decides what it learns in six epochs
    gentle = dataclasses.replace(TINY, optimiser=optimisers.Adam(0.01))
    trained = train(tmp_path, dataset, gentle, epochs=6)
    assert trained.history[-1]["validation_accuracy"] == 1
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == [str(epoch) for epoch in range(1, 7)]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert list((tmp_path / "events").glob("events*"))


def test_a_seed_repeats_and_another_differs(tmp_path: Path, dataset: Dataset) -> None:
    first, again, other = (
        weights(train(tmp_path / name, dataset, epochs=1, seed=seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    "recipe",
    [
        TINY,
        dataclasses.replace(TINY, averaging=optimisers.MovingAverage),
        dataclasses.replace(TINY, network=architectures.Pairs((8, 8), dropout=(0.3, 0.3)), optimiser=optimisers.Adam()),
        dataclasses.replace(TINY, augmentation=(augment.Translate(1), augment.Jpeg()), validation_quality=75),
    ],
    ids=["lookahead", "moving average", "dropout", "jpeg"],
)
def test_a_run_that_is_stopped_and_resumed_ends_as_the_whole_one(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, recipe: Recipe
) -> None:
    """Stopped within an epoch, and between two."""
    monkeypatch.setattr(optimisers.MovingAverage, "every", 2)
    averaging = recipe.averaging
    assert averaging
    whole = train(tmp_path / "whole", dataset, recipe, epochs=3)
    for epoch in (0.5, 1.0, 1.7):
        at, halves = round(epoch * whole.history[0]["step"]), tmp_path / str(epoch)
        with monkeypatch.context() as patch:
            stop_at(patch, at, averaging)
            with pytest.raises(trainer.Interrupted, match=f"step {at}"):
                train(halves, dataset, recipe, epochs=3)
        with pytest.raises(UsageError, match=r"an unfinished run, at step \d+: add --resume"):
            train(halves, dataset, recipe, epochs=3)
        resumed = train(halves, dataset, recipe, epochs=3, resume=True)
        assert all(np.array_equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))
        drop = {"seconds"}
        assert [{k: v for k, v in row.items() if k not in drop} for row in resumed.history] == [
            {k: v for k, v in row.items() if k not in drop} for row in whole.history
        ]


def test_the_best_epoch_is_what_stays(tmp_path: Path, dataset: Dataset) -> None:
    """The last epochs are made to spoil the network; what is returned is as good as the best row of the log."""
    recipe = dataclasses.replace(TINY, averaging=None, schedule=_Spoiling())
    trained = train(tmp_path, dataset, recipe, epochs=6)
    accuracies = [row["validation_accuracy"] for row in trained.history]
    assert accuracies[-1] < max(accuracies)
    answers = trainer.predict(trained.model, dataset.validation.images).argmax(1)
    assert (answers == dataset.validation.targets).mean() == pytest.approx(max(accuracies))


def test_epochs_are_judged_as_jpeg_too(tmp_path: Path, dataset: Dataset) -> None:
    """The best epoch is the one with the best mean of both accuracies, and its weights are what stays."""
    recipe = dataclasses.replace(TINY, averaging=None, schedule=_Spoiling(), validation_quality=20)
    trained = train(tmp_path, dataset, recipe, epochs=6)
    figures = [(row["validation_accuracy"], row["validation_jpeg_accuracy"]) for row in trained.history]
    assert figures[-1] < max(figures)
    validation = dataset.validation
    accuracies = [
        (trainer.predict(trained.model, pixels).argmax(1) == validation.targets).mean()
        for pixels in (validation.images, compress(validation.images, [20] * len(validation)))
    ]
    assert np.mean(accuracies) == pytest.approx(max(map(np.mean, figures)))
    with (tmp_path / "log.csv").open() as file:
        logged = [float(row["validation_jpeg_accuracy"]) for row in csv.DictReader(file)]
    assert logged == [jpeg for _, jpeg in figures]


def test_a_stalled_run_comes_down_and_ends(tmp_path: Path, dataset: Dataset) -> None:
    """Without a step that changes anything no epoch is better than the first."""
    still = dataclasses.replace(TINY, averaging=None, optimiser=optimisers.Adam(0.0), schedule=optimisers.Cosine())
    still = dataclasses.replace(still, network=_Frozen())
    trained = train(tmp_path / "a", dataset, still, epochs=40, patience=6)
    assert len(trained.history) == 1 + 6 + 2
    assert trained.history[-1]["learning_rate"] == 0
    whole = train(tmp_path / "b", dataset, still, epochs=12, patience=0)
    assert len(whole.history) == 12


class _Frozen(architectures.Whitened):
    """A network whose statistics stand still, too."""

    def build(self, size: tuple[int, int], classes: int, *, for_export: bool = False) -> keras.Model:
        model = architectures.Whitened((8,)).build(size, classes)
        for layer in model.layers:
            layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
        return model


def test_the_seed_learns_with_one_step_an_epoch(tmp_path: Path, dataset: Dataset) -> None:
    """Its statistics cover 100 steps in a long run; in one of 60 that would be chance."""
    seed = dataclasses.replace(SEED, network=architectures.Pairs((8, 8)), optimiser=optimisers.Adam(1e-2))
    trained = train(tmp_path, dataset, seed, epochs=60, batch_size=len(dataset.train))
    assert trained.history[0]["step"] == 1
    assert max(row["validation_accuracy"] for row in trained.history[-10:]) > 0.9


def test_weights_reach_the_loss(tmp_path: Path, dataset: Dataset) -> None:
    """Of two images' classes the rarer moves the network more: the first step differs from the unweighted one."""
    few = np.flatnonzero((dataset.train.targets != 0) | (np.arange(len(dataset.train)) % 5 == 0))
    uneven = dataclasses.replace(dataset, train=dataset.train.take(few))
    weighted = train(tmp_path / "a", uneven, epochs=1)
    assert weighted.class_weights is not None
    assert weighted.class_weights[0] > 2 * weighted.class_weights[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "class_weights", lambda targets, classes: None)
        plain = train(tmp_path / "b", uneven, epochs=1)
    assert weighted.history[0]["loss"] != plain.history[0]["loss"]


def test_a_recipe_suits_the_number_of_images() -> None:
    recipe = dataclasses.replace(TINY, epochs=25, batch_size=1024, optimiser=optimisers.Nesterov(learning_rate=1.5))
    whole = recipe.suited(45_000)
    assert (whole.batch_size, whole.epochs, whole.optimiser.learning_rate) == (1024, 25, 1.5)
    short = dataclasses.replace(recipe, epochs=18).suited(45_000)
    assert (short.batch_size, short.epochs) == (1024, 18)  # no more than the recipe's own
    some = recipe.suited(5_000)
    assert (some.batch_size, some.epochs, some.optimiser.learning_rate) == (128, 26, 1.5 / 8)
    few = recipe.suited(300)
    assert (few.batch_size, few.epochs, few.optimiser.learning_rate) == (64, 175, 1.5 / 16)
    assert recipe.suited(5).batch_size == 5
    given = recipe.suited(300, 7, 256)
    assert (given.batch_size, given.epochs, given.optimiser.learning_rate) == (256, 7, 1.5 / 4)


def test_a_teacher_is_learnt_from(tmp_path: Path, dataset: Dataset) -> None:
    """One that answers by other labels than the training images': its pupil answers as it does."""
    assert dataset.labels == ("blue", "green", "red")
    taught = np.array([2, 1, 0])  # the colour model's outputs are red, green, blue, whatever they are called
    held_out = Split(dataset.validation.images, taught[dataset.validation.targets])  # what the best epoch is judged by
    labels = ("green", "red", "blue")
    swapped = dataclasses.replace(dataset, labels=labels, validation=held_out)
    teacher = colour_bundle(tmp_path / "models", height=16, width=16, labels=labels)
    gentle = dataclasses.replace(TINY, optimiser=optimisers.Adam(0.01))
    trained = train(tmp_path / "run", swapped, gentle, epochs=12, teacher=teacher)
    answers = trainer.predict(trained.model, dataset.train.images).argmax(1)
    assert (answers == taught[dataset.train.targets]).mean() > 0.9
    with pytest.raises(UsageError, match="with teacher"):
        train(tmp_path / "run", swapped, gentle, epochs=12, resume=True)


def test_a_teacher_of_something_else_is_refused(tmp_path: Path, dataset: Dataset) -> None:
    with pytest.raises(UsageError, match="trained on the same classes"):
        train(tmp_path / "a", dataset, teacher=colour_bundle(tmp_path / "models", height=16, width=16))
    other = colour_bundle(tmp_path / "models", version=2, labels=dataset.labels)
    with pytest.raises(UsageError, match="takes images of 8x8, the data are 16x16"):
        train(tmp_path / "b", dataset, teacher=other)


class _Spoiling:
    """The peak rate for half a run, then one that drives the weights away."""

    def at(self, progress: float) -> float:
        return 1.0 if progress < 0.6 else 300.0


def test_a_finished_run_is_taken_up_without_training(tmp_path: Path, dataset: Dataset) -> None:
    first = train(tmp_path, dataset, epochs=1)
    again = train(tmp_path, dataset, epochs=1, resume=True)
    assert again.history == first.history
    assert all(np.array_equal(a, b) for a, b in zip(weights(first), weights(again), strict=True))


def test_a_finished_run_cannot_go_on(tmp_path: Path, dataset: Dataset) -> None:
    train(tmp_path / "epochs", dataset, epochs=1)
    train(tmp_path / "time", dataset, epochs=6, time_budget=1e-9)
    longer: tuple[tuple[str, dict[str, Any]], ...] = (
        ("epochs", {"epochs": 2}),
        ("time", {"epochs": 6}),
        ("time", {"epochs": 6, "time_budget": 99}),
    )
    for where, more in longer:
        with pytest.raises(UsageError, match="a finished run of 1 epochs, which cannot be continued"):
            train(tmp_path / where, dataset, resume=True, **more)
    assert len(train(tmp_path / "time", dataset, epochs=6, time_budget=1e-9, resume=True).history) == 1


def test_a_new_run_takes_a_published_ones_place_and_no_others(tmp_path: Path, dataset: Dataset) -> None:
    train(tmp_path, dataset, epochs=1)
    with pytest.raises(UsageError, match="a finished run that was not published"):
        train(tmp_path, dataset, epochs=2)
    (tmp_path / checkpoint.PUBLISHED).touch()
    assert len(train(tmp_path, dataset, epochs=2).history) == 2
    (tmp_path / checkpoint.PUBLISHED).touch()
    assert len(train(tmp_path, dataset, epochs=1, seed=3, resume=True).history) == 1
    (tmp_path / checkpoint.PUBLISHED).touch()
    (tmp_path / checkpoint.FILE).unlink()  # as where the new run was killed before its first checkpoint
    train(tmp_path, dataset, epochs=1)
    assert not (tmp_path / checkpoint.PUBLISHED).exists()


def test_two_runs_do_not_share_a_folder(tmp_path: Path, dataset: Dataset) -> None:
    with checkpoint.alone(tmp_path), pytest.raises(UsageError, match="another run is writing"):
        train(tmp_path, dataset)


def test_images_that_are_too_small_are_said_so(tmp_path: Path, dataset: Dataset) -> None:
    small = dataclasses.replace(dataset, train=Split(dataset.train.images[:, :1, :1], dataset.train.targets))
    with pytest.raises(UsageError, match="1x1 are too small for the recipe tiny"):
        train(tmp_path, small)


def test_resume_without_a_run_starts_one(tmp_path: Path, dataset: Dataset) -> None:
    assert len(train(tmp_path, dataset, epochs=1, resume=True).history) == 1


def test_a_time_budget_ends_the_run_with_its_schedule(tmp_path: Path, dataset: Dataset) -> None:
    trained = train(tmp_path, dataset, epochs=100_000, time_budget=3.0)
    assert 3.0 <= trained.seconds < 30
    assert trained.history[-1]["learning_rate"] == pytest.approx(0.5 * 0.07, rel=0.01)
    assert checkpoint.read(tmp_path).notes["done"]  # type: ignore[union-attr]


def test_what_does_not_fit_together_is_refused(tmp_path: Path, dataset: Dataset) -> None:
    train(tmp_path, dataset, epochs=1)
    with pytest.raises(UsageError, match="with seed 0, not 5"):
        train(tmp_path, dataset, seed=5, resume=True)
    with pytest.raises(UsageError, match="with recipe tiny, not other"):
        train(tmp_path, dataset, dataclasses.replace(TINY, name="other"), resume=True)
    with pytest.raises(UsageError, match="with resize_mode crop, not squash"):
        train(tmp_path, dataclasses.replace(dataset, resize_mode="squash"), resume=True)
    with pytest.raises(UsageError, match="with data"):
        train(tmp_path, dataclasses.replace(dataset, checksum="f" * 64), resume=True)
    other = dataclasses.replace(TINY, optimiser=optimisers.Nesterov(learning_rate=0.4))
    with pytest.raises(UsageError, match="the recipe tiny with other settings, or from another version"):
        train(tmp_path, dataset, other, resume=True)
    for damage in (b"damaged", b""):
        (tmp_path / checkpoint.FILE).write_bytes(damage)
        with pytest.raises(DataError, match="is damaged"):
            train(tmp_path, dataset, resume=True)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path, dataset: Dataset) -> None:
    """And what is kept are numbers: a loss tells of the weights before the step, which may spoil them."""
    wild = dataclasses.replace(TINY, optimiser=optimisers.Nesterov(), schedule=_Leaping(), averaging=None)
    no_numbers = r"(the loss is (nan|inf)|logits are not finite|weights are not finite)"
    with pytest.raises(KernelscopeError, match=no_numbers + r".* step \d+; the last good checkpoint is in"):
        train(tmp_path, dataset, wild, epochs=20, batch_size=len(dataset.train))  # a step an epoch: all are saved
    kept = checkpoint.read(tmp_path)
    assert kept is not None
    assert 1 <= kept.notes["step"] < 20
    assert all(np.isfinite(array).all() for arrays in kept.arrays.values() for array in arrays)


class _Leaping:
    """A rate that at first is small, and then beyond anything."""

    def at(self, progress: float) -> float:
        return 1e-3 if progress < 0.2 else 1e30


def test_resuming_for_less_than_it_has_had_ends_with_the_best_epoch(tmp_path: Path, dataset: Dataset) -> None:
    for where, at, less in (("epochs", 13, {"epochs": 1}), ("time", 3, {"epochs": 6, "time_budget": 1e-9})):
        with pytest.MonkeyPatch.context() as patch:
            stop_at(patch, at)
            with pytest.raises(trainer.Interrupted):
                train(tmp_path / where, dataset, epochs=6)
        trained = train(tmp_path / where, dataset, resume=True, **less)
        assert trained.history[-1]["step"] == at
        answers = trainer.predict(trained.model, dataset.validation.images).argmax(1)
        best = max(row["validation_accuracy"] for row in trained.history)
        assert (answers == dataset.validation.targets).mean() == pytest.approx(best, abs=1e-6)
        again = train(tmp_path / where, dataset, resume=True, **less)
        assert all(np.array_equal(a, b) for a, b in zip(weights(trained), weights(again), strict=True))


def test_a_run_in_another_precision_is_not_gone_on_with(tmp_path: Path, dataset: Dataset) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(trainer.Interrupted):
            train(tmp_path, dataset)
    with pytest.raises(UsageError, match="with precision float32, not mixed_bfloat16"):
        train(tmp_path, dataset, resume=True, precision="mixed_bfloat16")
    finished = train(tmp_path, dataset, resume=True)
    assert finished.origin["precision"] == "float32"
    taken_up = train(tmp_path, dataset, resume=True, precision="mixed_bfloat16")  # to be exported elsewhere
    assert taken_up.origin == finished.origin


def test_held_out_images_count_as_their_classes_do(tmp_path: Path, dataset: Dataset) -> None:
    """Of a class that is five times as rare, each counts five times: to answer the others alone is not 7 of 8 right."""
    many = np.flatnonzero((dataset.train.targets != 0) | (np.arange(len(dataset.train)) % 5 == 0))
    uneven = dataclasses.replace(dataset, train=dataset.train.take(many), validation=dataset.train.take(many))
    still = dataclasses.replace(TINY, averaging=None, optimiser=optimisers.Adam(0.0), network=_Frozen())
    trained = train(tmp_path, uneven, still, epochs=1)
    answers = trainer.predict(trained.model, uneven.validation.images).argmax(1)
    by_class = [float((answers[uneven.validation.targets == label] == label).mean()) for label in range(3)]
    assert trained.class_weights is not None
    assert trained.history[0]["validation_accuracy"] == pytest.approx(np.mean(by_class), abs=0.01)
    assert abs(np.mean(answers == uneven.validation.targets) - np.mean(by_class)) > 0.02


def test_a_full_disk_is_said_so(tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(KernelscopeError, match="No space left"):
        train(tmp_path, dataset, epochs=1)
    assert not list(tmp_path.glob("checkpoint*"))
