"""The 3×3 convolution of the networks, with a backward pass that two CPU cores are fast at."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import keras


@keras.saving.register_keras_serializable("kernelscope")
class Convolution(keras.layers.Conv2D):  # type: ignore[misc]  # keras is untyped
    """Keras' Conv2D of stride one and zero-padding that keeps the size; its kernels have an odd side.

    Where TensorFlow computes, the gradient by its input is a forward convolution: of the output's gradient, with the
    kernels turned by half a turn and their input and output channels exchanged, to which it is equal. oneDNN is up to
    seven times as fast at that as at its own backward convolution, where there is no AVX-512 (`docs/results.md`).
    """

    def __init__(self, filters: int, kernel_size: int = 3, **options: Any) -> None:
        super().__init__(filters, kernel_size, padding="same", use_bias=False, **options)
        windows = (*self.strides, *self.dilation_rate, self.groups)
        if set(windows) != {1} or not all(side % 2 for side in self.kernel_size):
            raise ValueError("only kernels of odd sides, at stride, dilation and groups of one")

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Images (N, H, W, C) and kernels (k, k, C, filters) -> (N, H, W, filters)."""
        if keras.backend.backend() != "tensorflow":
            return super().convolution_op(inputs, kernel)
        return _with_forward_gradient()(inputs, kernel.value)  # its value is in the precision that computes

    def get_config(self) -> dict[str, Any]:
        """The options, for saving."""
        config: dict[str, Any] = super().get_config()
        return {key: value for key, value in config.items() if key not in ("padding", "use_bias")}


@cache
def _with_forward_gradient() -> Callable[[Any, Any], Any]:
    import tensorflow as tf  # only where it is the backend: other backends train without it

    @tf.custom_gradient  # type: ignore[untyped-decorator]  # tensorflow is untyped
    def convolve(x: Any, kernel: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
        def gradient(upstream: Any) -> tuple[Any, Any]:
            turned = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])
            of_kernel = tf.raw_ops.Conv2DBackpropFilter(
                input=x, filter_sizes=tf.shape(kernel), out_backprop=upstream, strides=[1, 1, 1, 1], padding="SAME"
            )
            return tf.nn.conv2d(upstream, turned, 1, "SAME"), of_kernel

        return tf.nn.conv2d(x, kernel, 1, "SAME"), gradient

    # a tensor: of a variable, TensorFlow would want a gradient under its own name
    return lambda x, kernel: convolve(x, tf.convert_to_tensor(kernel))
