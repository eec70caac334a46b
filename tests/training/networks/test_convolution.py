"""The convolution with a backward pass of its own, beside Keras'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from training.networks.convolution import Convolution


@pytest.mark.parametrize(("size", "kernel"), [((7, 7), 3), ((5, 8), 3), ((2, 3), 5), ((1, 1), 3)])
def test_its_gradients_are_those_of_keras(size: tuple[int, int], kernel: int) -> None:
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(4, *size, 6)).astype(np.float32))
    ours, theirs = Convolution(10, kernel), keras.layers.Conv2D(10, kernel, padding="same", use_bias=False)
    upstream = tf.constant(rng.normal(size=(4, *size, 10)).astype(np.float32))
    gradients = []
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.kernel.assign(np.random.default_rng(1).normal(size=layer.kernel.shape))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        gradients.append((y, *tape.gradient(y, [x, layer.kernel.value], upstream)))
    for mine, wanted in zip(*gradients, strict=True):
        np.testing.assert_allclose(mine, wanted, atol=1e-4)


def test_it_computes_in_the_precision_that_is_asked_for() -> None:
    layer = Convolution(4, dtype="mixed_bfloat16")
    x = tf.ones((1, 4, 4, 3))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    assert y.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(y[0, 1, 1], tf.float32), np.sum(layer.kernel, (0, 1, 2)), atol=0.02)
    x_gradient, kernel_gradient = tape.gradient(y, [x, layer.kernel.value])
    assert x_gradient.dtype == kernel_gradient.dtype == tf.float32


def test_it_goes_backward_by_a_forward_convolution() -> None:
    layer = Convolution(4)
    layer.build((None, 8, 8, 3))

    @tf.function(input_signature=[tf.TensorSpec((2, 8, 8, 3))])  # type: ignore[untyped-decorator]
    def gradient(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return tape.gradient(y, x)

    kinds = [node.type for node in gradient.get_concrete_function().graph.get_operations()]
    assert kinds.count("Conv2D") == 2
    assert "Conv2DBackpropInput" not in kinds


@pytest.mark.parametrize("options", [{"strides": 2}, {"kernel_size": 4}, {"dilation_rate": 2}, {"groups": 2}])
def test_it_refuses_what_its_gradient_does_not_hold_for(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="odd sides, at stride, dilation and groups of one"):
        Convolution(4, **options)


def test_it_is_kept_in_a_file(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((8, 8, 3)), Convolution(4, name="only")])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.get_layer("only"), Convolution)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(loaded.predict_on_batch(x), model.predict_on_batch(x))
