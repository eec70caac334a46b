"""Batch normalisation in one operation, beside Keras' own."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from training.networks.architectures import Pairs
from training.networks.normalisation import BatchNorm, limit_momentum


@pytest.mark.parametrize("scale", [False, True])
def test_it_computes_what_keras_computes(scale: bool) -> None:
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(2, 3, (8, 5, 4, 7)).astype(np.float32))
    upstream = tf.constant(rng.normal(size=x.shape).astype(np.float32))
    options = {"momentum": 0.8, "scale": scale, "epsilon": 1e-5}
    results = []
    for layer in (BatchNorm(**options), keras.layers.BatchNormalization(**options)):
        layer.build(x.shape)
        for variable in layer.trainable_variables:
            variable.assign(np.random.default_rng(1).uniform(0.5, 2, 7))
        trained = [variable.value for variable in layer.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        gradients = tape.gradient(y, [x, *trained], upstream)
        results.append((y, *gradients, layer.moving_mean, layer.moving_variance, layer(x, training=False)))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-4, atol=1e-4)


def test_training_takes_one_operation() -> None:
    layer = BatchNorm()
    layer.build((None, 8, 8, 3))

    @tf.function(input_signature=[tf.TensorSpec((2, 8, 8, 3))])  # type: ignore[untyped-decorator]
    def train(x: tf.Tensor) -> tf.Tensor:
        return layer(x, training=True)

    kinds = [node.type for node in train.get_concrete_function().graph.get_operations()]
    assert kinds.count("FusedBatchNormV3") == 1
    assert "SquaredDifference" not in kinds


def test_bfloat16_keeps_its_statistics_in_float32() -> None:
    layer = BatchNorm(momentum=0.0, dtype="mixed_bfloat16")
    x = np.random.default_rng(0).normal(100, 0.5, (64, 8, 8, 3)).astype(np.float32)
    rounded = tf.cast(tf.cast(x, tf.bfloat16), tf.float32)
    assert layer(x, training=True).dtype == tf.bfloat16
    np.testing.assert_allclose(layer.moving_mean, np.mean(rounded, (0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(layer.moving_variance, np.var(rounded, (0, 1, 2)), rtol=0.02)


@pytest.mark.parametrize(("steps", "momentum"), [(10, 0.5), (400, 0.9), (100_000, 0.99)])
def test_statistics_remember_no_more_than_a_part_of_a_run(steps: int, momentum: float) -> None:
    model = Pairs((4,)).build((8, 8), 2)
    limit_momentum(model, steps)
    momenta = [layer.momentum for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert momenta == pytest.approx([momentum] * 2)
