"""The recipes' networks as bundles, untrained but as they are exported."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from contract import bundle
from contract.card import Card
from training import backbones
from training.export import model_file, to_onnx
from training.networks import architectures
from training.networks.pretrained import Pretrained
from training.recipes import RECIPES

SIZE = (32, 32)
LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def recipe_bundle(name: str, root: Path) -> bundle.Bundle:
    """A recipe's network with its first weights, and statistics that hide nothing by zeros and ones.

    One that is pre-trained has these weights, and a random head.
    """
    keras.utils.set_random_seed(0)
    network = RECIPES[name].network
    model = network.build(SIZE, len(LABELS))
    rng = np.random.default_rng(0)
    architectures.whiten(model, rng.integers(0, 256, (64, *SIZE, 3), np.uint8))
    if isinstance(network, Pretrained):
        backbones.find(network.backbone).load(model)
    for variable in [] if isinstance(network, Pretrained) else model.weights:
        if variable.path.endswith(("bias", "beta", "moving_mean")):
            variable.assign(rng.normal(0, 0.1, variable.shape))
        elif variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.path.endswith("kernel") and "whitening" not in variable.path:
            variable.assign(variable.numpy() + rng.normal(0, 0.02, variable.shape))
    proto = to_onnx.convert(to_onnx.in_form(network, model, len(LABELS), for_export=True))
    folder = root / name / "1"
    folder.mkdir(parents=True)
    return model_file.write(proto, Card(name=name, labels=LABELS, height=SIZE[0], width=SIZE[1]), folder)
