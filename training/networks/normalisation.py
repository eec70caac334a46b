"""Batch normalisation as one fused operation where TensorFlow is the backend; Keras' own layer takes a dozen."""

from __future__ import annotations

from typing import Any, Final

import keras

_MEMORIES: Final = 40
"""The running statistics cover at most one part in so many of a run."""
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
        output = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.cast(self.gamma, tf.float32) if self.scale else ones,
            offset=tf.cast(self.beta.value, tf.float32) if self.center else tf.zeros_like(ones),
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=self.epsilon,
            is_training=True,
        )
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
        biased = output.batch_variance * ((count - 1) / count)  # the operation returns the unbiased variance
        for variable, value in ((self.moving_mean, output.batch_mean), (self.moving_variance, biased)):
            variable.assign(variable * self.momentum + value * (1 - self.momentum))
        return output.y


def limit_momentum(model: keras.Model, steps: int) -> None:
    """Lower the momentum of every batch normalisation whose running statistics cover too many steps for a short run.

    With momentum m, the statistics cover about 1 / (1 - m) steps. A run of a few hundred steps at 0.99 would end with
    the statistics of much older weights, and classify at chance.

    Args:
        model: not yet compiled; changed in place.
        steps: steps of the whole run; the statistics cover a fortieth of them at most.
    """
    highest = max(_LEAST_MOMENTUM, 1 - _MEMORIES / steps)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, highest)
