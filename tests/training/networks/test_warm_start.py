"""Weights of a bundle, in the network that they came from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest

from contract.bundle import Bundle
from contract.card import Card, Cost
from contract.errors import UsageError
from contract.preprocessing import Pixels
from training.evaluation import evaluate
from training.export import model_file, to_onnx
from training.loop import trainer
from training.networks.architectures import Network, Pairs, Whitened, whiten
from training.networks.warm_start import load_weights

NETWORKS: list[Network] = [Whitened((8, 12)), Whitened((8, 8), depth=3, pool_padding="same"), Pairs((8, 12))]


@pytest.fixture
def images() -> Pixels:
    coarse = np.random.default_rng(0).integers(0, 256, (400, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(4, 1).repeat(4, 2)


def exported(network: Network, images: Pixels, folder: Path) -> Bundle:
    """A bundle whose weights and statistics are those of a training, as far as the export is concerned."""
    model = network.build((16, 16), 3)
    whiten(model, images)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
            layer.beta.assign(rng.normal(size=layer.beta.shape))
    for _ in range(20):
        model(images.astype(np.float32), training=True)
    folder.mkdir()
    proto = to_onnx.convert(to_onnx.in_form(network, model, 3, for_export=True))
    card = Card(name="x", labels=("a", "b", "c"), height=16, width=16, cost=Cost(dtype="float32"))
    return model_file.save_draft(proto, card, folder)


@pytest.mark.parametrize("network", NETWORKS, ids=repr)
def test_a_network_answers_as_the_bundle_does(network: Network, images: Pixels, tmp_path: Path) -> None:
    bundle = exported(network, images, tmp_path / "1")
    fresh = network.build((16, 16), 3)
    load_weights(fresh, bundle, images)
    wanted, _ = evaluate.predict(bundle, images)
    found = trainer.predict(fresh, images)
    assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()
    assert (found.argmax(1) == wanted.argmax(1)).mean() > 0.97


def test_another_network_and_an_int8_bundle_are_refused(images: Pixels, tmp_path: Path) -> None:
    bundle = exported(NETWORKS[0], images, tmp_path / "1")
    with pytest.raises(UsageError, match="layers of other shapes"):
        load_weights(Whitened((8, 16)).build((16, 16), 3), bundle, images)
    int8 = dataclasses.replace(bundle, card=dataclasses.replace(bundle.card, cost=Cost(dtype="int8")))
    with pytest.raises(UsageError, match="is int8"):
        load_weights(NETWORKS[0].build((16, 16), 3), int8, images)
