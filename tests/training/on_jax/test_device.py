"""Many steps a call, on the images of a device: the same training as step by step on the host."""

from __future__ import annotations

import dataclasses
import io
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from rich.console import Console

from contract.errors import KernelscopeError, UsageError
from tests.support.images import class_folder
from tests.support.models import colour_bundle
from tests.support.recipes import TINY
from training import optimisers
from training.data import augment
from training.data import dataset as datasets
from training.data.dataset import Dataset
from training.loop import blocks, checkpoint, parallel, trainer
from training.loop.batches import Batches
from training.loop.blocks import Block, Blocks
from training.loop.device import Device
from training.loop.executor import Point
from training.networks import architectures
from training.recipes import Recipe

GENTLE = dataclasses.replace(TINY, optimiser=optimisers.Nesterov(learning_rate=0.05))
"""A rate at which two runs that differ in the last bits stay close."""
JPEG = dataclasses.replace(GENTLE, augmentation=(augment.Translate(1), augment.Jpeg(), augment.Flip()))
PAIRS = dataclasses.replace(
    GENTLE,
    network=architectures.Pairs((8, 8), dropout=(0.3, 0.3)),
    augmentation=(augment.Affine(15, 0.1), augment.Flip(), augment.Cutout(4)),
    optimiser=optimisers.Adam(),
    averaging=optimisers.MovingAverage,
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("data")
        patch.setenv("KERNELSCOPE_CACHE", str(root / "cache"))
        return datasets.load(str(class_folder(root / "colours", each=20)))


@pytest.fixture(autouse=True)
def _one_device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "two_devices" not in request.fixturenames:
        monkeypatch.setattr(parallel, "devices", lambda: ["cpu:0"])


@pytest.fixture
def two_devices() -> Iterator[None]:
    assert parallel.devices() == ["cpu:0", "cpu:1"]
    yield
    assert keras.distribution.distribution() is None


def train(
    folder: Path, dataset: Dataset, recipe: Recipe = GENTLE, *, resume: bool = False, **options: Any
) -> trainer.Trained:
    console = Console(file=io.StringIO())
    return trainer.fit(recipe, dataset, trainer.Options(**options), folder, resume=resume, console=console)


def stop_at_call(patch: pytest.MonkeyPatch, number: int, longest: int) -> None:
    """Let a SIGINT come during that call; a call has so many steps at most."""
    run, most, calls = Device.run, Device.most, itertools.count(1)

    def stop(self: Device, step: int, points: list[Point]) -> Any:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGINT)
        return run(self, step, points)

    patch.setattr(Device, "most", lambda self, step: min(longest, most(self, step)))
    patch.setattr(Device, "run", stop)


def assert_same(first: trainer.Trained, second: trainer.Trained, tolerance: float = 2e-3) -> None:
    for key in ("loss", "validation_loss", "learning_rate"):
        a, b = ([row[key] for row in trained.history] for trained in (first, second))
        np.testing.assert_allclose(a, b, atol=tolerance, err_msg=key)
    for a, b in zip(first.model.weights, second.model.weights, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=tolerance, err_msg=a.path)


@pytest.mark.parametrize(
    ("recipe", "kinds"),
    [(GENTLE, ("resident", "streamed")), (PAIRS, ("resident", "streamed")), (JPEG, ("streamed",))],
    ids=["lookahead", "moving average", "jpeg"],
)
def test_device_and_host_train_alike(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, recipe: Recipe, kinds: tuple[str, ...]
) -> None:
    """Whatever the length of a call; an epoch is no multiple of it."""
    monkeypatch.setattr(optimisers.MovingAverage, "every", 2)
    host = train(tmp_path / "host", dataset, recipe, epochs=3, executor="host")
    steps = host.history[0]["step"]
    for kind in kinds:
        for longest in (4, 64):
            assert steps % 4
            monkeypatch.setattr(blocks, "LONGEST", longest)
            folder = tmp_path / f"{kind}-{longest}"
            assert_same(train(folder, dataset, recipe, epochs=3, executor=kind), host)


def test_a_run_that_is_stopped_and_resumed_ends_as_the_whole_one(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device a signal is answered at the end of a call; the resumed run need not begin with a block."""
    monkeypatch.setattr(blocks, "LONGEST", 4)
    for executor in ("resident", "streamed"):
        whole = train(tmp_path / executor, dataset, epochs=3, executor=executor)
        for call in (1, 5):
            folder = tmp_path / f"{executor}-{call}"
            with monkeypatch.context() as patch:
                stop_at_call(patch, call, longest=2)
                with pytest.raises(trainer.Interrupted):
                    train(folder, dataset, epochs=3, executor=executor)
            assert_same(train(folder, dataset, epochs=3, executor=executor, resume=True), whole, 1e-5)


def test_a_run_may_go_on_with_another_executor(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = optimisers.Lookahead.step

    def stop(self: optimisers.Lookahead, number: int, progress: float) -> None:
        step(self, number, progress)
        if number == 8:
            os.kill(os.getpid(), signal.SIGINT)

    host = train(tmp_path / "host", dataset, epochs=3, executor="host")
    with monkeypatch.context() as patch:
        patch.setattr(optimisers.Lookahead, "step", stop)
        with pytest.raises(trainer.Interrupted, match="step 8"):
            train(tmp_path / "both", dataset, epochs=3, executor="host")
    assert_same(train(tmp_path / "both", dataset, epochs=3, executor="resident", resume=True), host)


def test_rare_classes_count_for_more(tmp_path: Path, dataset: Dataset) -> None:
    few = np.flatnonzero((dataset.train.targets != 0) | (np.arange(len(dataset.train)) % 5 == 0))
    uneven = dataclasses.replace(dataset, train=dataset.train.take(few))
    host, device = (train(tmp_path / kind, uneven, epochs=2, executor=kind) for kind in ("host", "resident"))
    assert host.class_weights is not None
    assert_same(host, device)


def test_bfloat16(tmp_path: Path, dataset: Dataset) -> None:
    trained = train(tmp_path, dataset, TINY, epochs=6, executor="resident", precision="mixed_bfloat16")
    assert trained.origin["precision"] == "mixed_bfloat16"
    assert trained.history[-1]["validation_accuracy"] > 0.9


def test_a_time_budget_ends_the_run_with_its_schedule(tmp_path: Path, dataset: Dataset) -> None:
    trained = train(tmp_path, dataset, TINY, epochs=100_000, time_budget=3.0, executor="resident")
    assert 3.0 <= trained.seconds < 30
    assert trained.history[-1]["learning_rate"] == pytest.approx(0.5 * 0.07, rel=0.05)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path, dataset: Dataset) -> None:
    wild = dataclasses.replace(TINY, optimiser=optimisers.Nesterov(learning_rate=1e30), averaging=None)
    with pytest.raises(KernelscopeError, match=r"(the loss is (nan|inf)|not finite).* step \d+"):
        train(tmp_path, dataset, wild, epochs=20, executor="resident")
    assert checkpoint.read(tmp_path) is None


def test_two_devices_train_as_one_does(tmp_path: Path, dataset: Dataset, two_devices: None) -> None:
    """Each has half of a batch; the validation images are no multiple of two."""
    odd = dataclasses.replace(dataset, validation=dataset.train.take(np.arange(5)))
    for recipe in (GENTLE, PAIRS):
        for kind in ("host", "resident", "streamed"):
            folder = tmp_path / recipe.network.__class__.__name__ / kind
            both = train(folder / "two", odd, recipe, epochs=2, executor=kind)
            for variable in both.model.weights:
                assert len(variable.value.sharding.device_set) == 2
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(parallel, "devices", lambda: ["cpu:0"])
                one = train(folder / "one", odd, recipe, epochs=2, executor=kind)
            assert_same(both, one)


def test_a_run_on_two_devices_is_resumed(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, two_devices: None
) -> None:
    whole = train(tmp_path / "whole", dataset, epochs=2, executor="resident")
    with monkeypatch.context() as patch:
        stop_at_call(patch, 1, longest=3)
        with pytest.raises(trainer.Interrupted, match="step 3"):
            train(tmp_path / "halves", dataset, epochs=2, executor="resident")
    assert_same(train(tmp_path / "halves", dataset, epochs=2, executor="resident", resume=True), whole, 1e-5)


def test_as_many_devices_are_used_as_divide_a_batch(two_devices: None) -> None:
    for batch_size, count in ((8, 2), (7, 1)):
        with parallel.shared(batch_size) as used:
            assert used == count


def test_what_a_device_cannot_do_is_said_before_the_training(tmp_path: Path, dataset: Dataset) -> None:
    with pytest.raises(UsageError, match="Jpeg is done by the host: give --executor streamed"):
        train(tmp_path, dataset, JPEG, epochs=1, executor="resident")
    teacher = colour_bundle(tmp_path / "models", height=16, width=16, labels=dataset.labels)
    with pytest.raises(UsageError, match="a teacher answers on the host"):
        train(tmp_path, dataset, epochs=1, executor="streamed", teacher=teacher)


def test_blocks_hold_the_batches_of_the_host(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever order they are asked for; those with images are made in parts, on several threads."""
    monkeypatch.setattr(blocks, "LONGEST", 4)
    batches = Batches(dataset, JPEG.augmentation, 7, 3, None)
    assert batches.per_epoch % 4
    streamed = Blocks(batches, 2, lambda rows: rows)
    try:
        for step in (0, batches.per_epoch - 1, batches.per_epoch, 2, 3):
            first, end = streamed.bounds(step)
            block = streamed.holding(step)
            assert isinstance(block, Block)
            assert (block.first, block.first + block.steps) == (first, end)
            assert first <= step < end
            (flips,) = block.rows["parameters"][0]
            images = np.where(flips[..., None, None, None], block.rows["images"][..., ::-1, :], block.rows["images"])
            np.testing.assert_array_equal(images[step - first], batches.at(step)[0])
            targets = batches.at(step)[1].argmax(1)
            np.testing.assert_array_equal(block.rows["targets"][step - first], targets)
            assert {len(value) for value in (images, flips, block.rows["targets"])} == {streamed.length}
    finally:
        streamed.close()
