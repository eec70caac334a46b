from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from contract import bundle
from contract.card import Data
from contract.network.embedding import embed
from contract.network.form import Form
from contract.network.prepared import Prepared
from contract.preprocessing import Pixels
from tests.support import planted
from training.data.dataset import Dataset
from training.data.split import Split
from training.export import ascent, channels, features


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> bundle.Bundle:
    made = planted.planted_bundle(tmp_path_factory.mktemp("planted"))
    card = replace(made.card, cost=replace(made.card.cost, dtype="float32"), data=Data(name="planted"))
    (made.folder / bundle.CARD).write_text(card.to_json())
    return bundle.read(made.folder)


@pytest.fixture(scope="module")
def form(trained: bundle.Bundle) -> Form:
    return Form(trained.model, trained.card.labels)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    images, targets = planted.planted_images(150, 3)
    names = tuple(f"{number}\udcff.png" for number in range(len(images)))  # a name of any bytes
    split = Split(images, targets.astype(np.int64), names)
    few = split.take(np.arange(5))
    return Dataset("planted", planted.LABELS, split, few, None, "crop", "0")


def test_the_images_that_excite_a_channel_most_and_least_are_found(form: Form, dataset: Dataset) -> None:
    images = dataset.train.images
    layers = channels.shown(form)
    assert [layer.id for layer in layers] == ["conv1", "conv2"]  # the third is the dense layer
    found = channels.examples(form, layers, images, 1)
    for layer in layers:
        maps = form.maps(layer, images)
        strongest, weakest = found[layer.id]
        assert strongest.images.shape == (8, channels.STRONGEST)
        assert weakest.images.shape == (8, channels.WEAKEST)
        for channel in range(8):
            own = maps[..., channel]
            np.testing.assert_allclose(strongest.values[channel], np.sort(own.max((1, 2)))[::-1][:9], rtol=1e-5)
            np.testing.assert_allclose(weakest.values[channel], np.sort(own.min((1, 2)))[:4], rtol=1e-5)
            for examples in (strongest, weakest):
                assert len(set(examples.images[channel].tolist())) == examples.images.shape[1]
                for image, value, (row, column) in zip(
                    examples.images[channel], examples.values[channel], examples.places[channel], strict=True
                ):
                    assert own[image, row, column] == pytest.approx(value, rel=1e-5)


def test_an_image_that_is_made_excites_its_channel_more_than_training_images_do(form: Form, dataset: Dataset) -> None:
    layer = form.layers.find("conv2")
    strongest, _ = channels.examples(form, [layer], dataset.train.images, 1)["conv2"]
    climb = ascent.Ascent(form.graph, layer, ascent.colour_root(dataset.train.images), 1)
    made = climb.make([2, 5], steps=64)
    assert made.images.shape == (2, 32, 32, 3)
    maps = form.maps(layer, made.images)
    for place, channel in enumerate((2, 5)):
        assert made.reached[place] == pytest.approx(maps[place, :, :, channel].max(), rel=1e-4)
        assert made.reached[place] > strongest.values[channel].max()
        assert maps[place, :, :, channel].mean() > maps[1 - place, :, :, channel].mean()


def test_moving_an_image_and_its_adjoint_agree() -> None:
    """<move(x), y> = <x, adjoint(y)>, but for the grey that comes in from outside."""
    rng = np.random.default_rng(0)
    move = ascent.Move.random(rng, 12, 10)
    x, y = rng.normal(size=(2, 3, 12, 10, 3)).astype(np.float32)
    grey = move(np.zeros_like(x))
    assert np.vdot(move(x) - grey, y) == pytest.approx(np.vdot(x, move.adjoint(y)), rel=1e-4)


def test_what_is_made_stands_beside_the_bundle(trained: bundle.Bundle, form: Form, dataset: Dataset) -> None:
    console = Console(quiet=True)
    with pytest.raises(FileNotFoundError):
        Prepared(trained.folder)
    folder = features.make(trained, dataset, console, seconds=60, steps=2, most_images=100)
    assert folder == trained.folder / "inside"
    found = Prepared(trained.folder)
    assert (found.index.data, found.index.images, found.index.layers) == ("planted", 150, ("conv1", "conv2"))
    shown = found.channels("conv1")
    assert not np.isnan(shown.reached).any()
    vectors, targets, numbers = found.embeddings()
    assert vectors.dtype == np.float16
    assert (len(vectors), int(numbers[0]), int(numbers[-1])) == (100, 0, 149)
    np.testing.assert_allclose(vectors, embed(form, dataset.train.images[numbers]), atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float32), axis=1), 1, atol=1e-3)
    np.testing.assert_array_equal(targets, dataset.train.targets[numbers])
    assert set(shown.strongest.images.ravel()) <= set(numbers)
    assert found.thumbnails([0]) == {}  # training images are private
    assert not any(path.name.startswith(".") for path in trained.folder.iterdir())


def test_training_images_are_kept_where_that_is_asked_for(trained: bundle.Bundle, dataset: Dataset) -> None:
    features.make(trained, dataset, Console(quiet=True), seconds=0, most_images=20, keep_examples=True)
    found = Prepared(trained.folder)
    (thumbnail,) = found.thumbnails([0]).values()
    assert thumbnail.startswith(b"\xff\xd8\xff")
    assert np.isnan(found.channels("conv1").reached).all()  # there was no time to make images


def test_what_was_made_for_another_model_is_refused(trained: bundle.Bundle, dataset: Dataset, tmp_path: Path) -> None:
    features.make(trained, dataset, Console(quiet=True), seconds=0, most_images=20)
    before = trained.model.read_bytes()
    try:
        trained.model.write_bytes(before + b"\x00")
        with pytest.raises(ValueError, match="another model"):
            Prepared(trained.folder)
    finally:
        trained.model.write_bytes(before)


def colours() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), np.uint8)


def test_the_colour_root_gives_back_how_colours_go_together() -> None:
    root = ascent.colour_root(colours())
    covariance = np.cov(colours().reshape(-1, 3).T / 255)
    ours = root @ root.T
    np.testing.assert_allclose(ours / ours[0, 0], covariance / covariance[0, 0], atol=1e-4)
