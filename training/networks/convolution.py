"""The 3×3 convolution of the networks, with a backward pass that is fast on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import keras


@keras.saving.register_keras_serializable("kernelscope")
class Convolution(keras.layers.Conv2D):  # type: ignore[misc]  # keras is untyped
    """Keras' Conv2D with stride one, zero-padding that keeps the size, kernels of an odd side, and no bias.

    On TensorFlow, the gradient by the input is computed as a forward convolution, to which it is equal: of the output's
    gradient, with the kernels rotated by 180 degrees and their input and output channels exchanged. Without AVX-512,
    oneDNN computes that up to seven times as fast as its own backward convolution (`docs/experiments/index.md`).
    """

    def __init__(self, filters: int, kernel_size: int = 3, **options: Any) -> None:
        super().__init__(filters, kernel_size, padding="same", use_bias=False, **options)
        windows = (*self.strides, *self.dilation_rate, self.groups)
        if set(windows) != {1} or not all(side % 2 for side in self.kernel_size):
            raise ValueError("only kernels of odd sides, at stride, dilation and groups of one")

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve images (N, H, W, C) with kernels (k, k, C, filters); returns (N, H, W, filters)."""
        if keras.backend.backend() != "tensorflow":
            return super().convolution_op(inputs, kernel)
        return _with_forward_gradient()(inputs, kernel.value)  # the value has the precision of the computation

    def get_config(self) -> dict[str, Any]:
        """Return the options, for saving."""
        config: dict[str, Any] = super().get_config()
        return {key: value for key, value in config.items() if key not in ("padding", "use_bias")}


@cache
def _with_forward_gradient() -> Callable[[Any, Any], Any]:
    import tensorflow as tf  # imported only where it is the backend

    @tf.custom_gradient  # type: ignore[untyped-decorator]  # tensorflow is untyped
    def convolve(x: Any, kernel: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
        def gradient(upstream: Any) -> tuple[Any, Any]:
            rotated = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])
            kernel_gradient = tf.raw_ops.Conv2DBackpropFilter(
                input=x, filter_sizes=tf.shape(kernel), out_backprop=upstream, strides=[1, 1, 1, 1], padding="SAME"
            )
            return tf.nn.conv2d(upstream, rotated, 1, "SAME"), kernel_gradient

        return tf.nn.conv2d(x, kernel, 1, "SAME"), gradient

    # a tensor: for a variable, TensorFlow needs a gradient function with another signature
    return lambda x, kernel: convolve(x, tf.convert_to_tensor(kernel))
