"""Batch normalisation as one fused operation where TensorFlow is the backend; Keras' own layer takes a dozen."""

from __future__ import annotations

from typing import Any

import keras


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
