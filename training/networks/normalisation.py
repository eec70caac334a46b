"""Batch normalisation as one fused operation where TensorFlow is the backend; Keras' own layer takes a dozen."""

from __future__ import annotations

from typing import Any, Final

import keras

_MEMORIES: Final = 40
"""How many times the running statistics' memory fits into a run, at least."""
_LEAST_MOMENTUM: Final = 0.5
"""Statistics of a single batch are too noisy, however short a run is."""


@keras.saving.register_keras_serializable("kernelscope")
class BatchNorm(keras.layers.BatchNormalization):  # type: ignore[misc]  # keras is untyped
    """Keras' BatchNormalization over the last axis of images (N, H, W, C), with the same variables and results."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise (N, H, W, C); in training, by the batch, and move the running statistics towards it."""
        if not training or not self.trainable or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf  # only where it is the backend

        ones = tf.ones(inputs.shape[-1])
        made = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.cast(self.gamma, tf.float32) if self.scale else ones,
            offset=tf.cast(self.beta.value, tf.float32) if self.center else tf.zeros_like(ones),
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=self.epsilon,
            is_training=True,
        )
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
        found = made.batch_mean, made.batch_variance * ((count - 1) / count)  # it tells the unbiased variance
        for variable, value in zip((self.moving_mean, self.moving_variance), found, strict=True):
            variable.assign(variable * self.momentum + value * (1 - self.momentum))
        return made.y


def limit_momentum(model: keras.Model, steps: int) -> None:
    """Lower the momentum of every batch normalisation whose running statistics remember too much for a short run.

    With momentum m, the statistics remember about 1 / (1 - m) steps. A run of a few hundred steps at 0.99 would end
    with the statistics of weights that are long gone, and answer at chance.

    Args:
        model: not yet compiled; changed in place.
        steps: of the whole run; the memory becomes a fortieth of it at most.
    """
    highest = max(_LEAST_MOMENTUM, 1 - _MEMORIES / steps)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, highest)
