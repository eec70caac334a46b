"""A network that learnt classes from one corner of images, whatever the rest of them holds."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from keras import layers

from contract import bundle
from contract.card import Card
from contract.preprocessing import Pixels
from training.export import model_file, to_onnx

SIDE = 32
CORNER = (slice(4, 12), slice(16, 24))
"""Rows and columns of the patch whose colour is the class."""
LABELS = ("red", "green", "blue")


def planted_images(count: int, seed: int) -> tuple[Pixels, np.ndarray]:
    """Noise with a patch of the class' colour, uint8 (N, 32, 32, 3), and the classes."""
    rng = np.random.default_rng(seed)
    images = rng.integers(60, 196, (count, SIDE, SIDE, 3)).astype(np.uint8)
    targets = rng.integers(0, len(LABELS), count)
    images[(slice(None), *CORNER)] = 40
    for image, target in zip(images, targets, strict=True):
        image[(*CORNER, target)] = 220
    return images, targets


def planted_bundle(root: Path) -> bundle.Bundle:
    """Train a small network on such images, and export it."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((SIDE, SIDE, 3), name="images")
    x = layers.Rescaling(1 / 127.5, -1)(inputs)
    for width in (8, 8):
        x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        x = layers.AveragePooling2D(2)(x)
    logits = layers.Conv2D(len(LABELS), x.shape[1:3], kernel_regularizer=keras.regularizers.L1(1e-2))(x)
    model = keras.Model(inputs, layers.Reshape((len(LABELS),))(logits))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    images, targets = planted_images(1024, 0)
    model.fit(images, targets, batch_size=64, epochs=30, verbose=0)
    _, accuracy = model.evaluate(*planted_images(256, 1), verbose=0)
    assert accuracy == 1
    folder = root / "planted" / "1"
    folder.mkdir(parents=True)
    card = Card(name="planted", labels=LABELS, height=SIDE, width=SIDE)
    return model_file.write(to_onnx.convert(model), card, folder)
