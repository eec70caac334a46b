from __future__ import annotations

import keras
import numpy as np

from benchmarks.ablation import Plain, variants
from training.networks import architectures
from training.recipes import FAST


def first_kernel(network: architectures.Whitened) -> tuple[np.ndarray, np.ndarray, bool]:
    """As it is built, as whitening leaves it, and whether it is trained."""
    keras.utils.set_random_seed(0)
    model = network.build((32, 32), 4)
    kernel = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)).kernel
    built = keras.ops.convert_to_numpy(kernel).copy()
    architectures.whiten(model, np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8))
    return built, keras.ops.convert_to_numpy(kernel), any(variable is kernel for variable in model.trainable_variables)


def test_what_the_ablation_takes_out_is_out() -> None:
    built, left, is_trained = first_kernel(Plain((8,)))
    assert not np.array_equal(built, left)
    assert not is_trained
    built, left, is_trained = first_kernel(Plain((8,), whitened=False))
    assert np.array_equal(built, left)
    assert is_trained


def test_every_variant_differs_from_the_whole() -> None:
    forms = [recipe.form() for recipe in variants(FAST).values()]
    assert len(set(forms)) == len(forms) > 10
