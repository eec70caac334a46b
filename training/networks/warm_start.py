"""A network's first weights from a bundle, so that a training goes on from what another one has learnt.

A bundle's ONNX graph has every batch normalisation folded into the convolution before it: kernels W and biases b. The
normalisation is unfolded by the statistics of some images: it gets the mean and the variance that W's output has there,
the variance as its scale where it has one, and b plus the mean as its bias.
"""

from __future__ import annotations

import math

import keras
import numpy as np
import numpy.typing as npt
import onnx

from contract.bundle import Bundle
from contract.errors import UsageError
from contract.network import half_precision
from contract.preprocessing import Pixels

_IMAGES = 1000
"""Images whose statistics the normalisations begin with; the first steps of a training replace them."""


def load_weights(model: keras.Model, bundle: Bundle, images: Pixels) -> None:
    """Give a model the weights of a bundle of the same network.

    Args:
        model: as `Network.build` makes it for training; changed in place.
        bundle: a float32 bundle.
        images: training images, uint8 (N, H, W, 3); some of them are used.

    Raises:
        UsageError: the bundle is int8, or its layers have other shapes.
    """
    if bundle.float32 is None:
        raise UsageError(f"{bundle.folder} is int8: start from a float32 bundle")
    filters = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)]
    kernels = _kernels(half_precision.expand(onnx.load(bundle.float32)))
    # compared by size and outputs alone: a dense layer may be exported as the convolution that it equals
    ours = [(math.prod(layer.kernel.shape), layer.kernel.shape[-1]) for layer in filters]
    if ours != [(kernel.size, kernel.shape[-1]) for kernel, _ in kernels]:
        raise UsageError(
            f"{bundle.folder} has layers of other shapes than this recipe: start from a bundle of the same network"
        )
    chosen = images[np.linspace(0, len(images) - 1, min(len(images), _IMAGES)).round().astype(int)]
    waiting: npt.NDArray[np.float32] | None = None  # the bias of a convolution, until its normalisation comes
    following = iter(zip(filters, kernels, strict=True))
    for layer in model.layers:
        if layer in filters:
            _, (kernel, bias) = next(following)
            layer.kernel.assign(kernel.reshape(layer.kernel.shape))
            if layer.use_bias:
                layer.bias.assign(bias)
            waiting = None if layer.use_bias else bias
        elif isinstance(layer, keras.layers.BatchNormalization) and waiting is not None:
            _unfold(model, layer, waiting, chosen)


def _unfold(
    model: keras.Model, layer: keras.layers.BatchNormalization, bias: npt.NDArray[np.float32], images: Pixels
) -> None:
    before = keras.Model(model.input, layer.input)
    outputs = [
        np.asarray(keras.ops.convert_to_numpy(before(images[i : i + 250].astype(np.float32))), np.float32)
        for i in range(0, len(images), 250)
    ]
    values = np.concatenate(outputs).reshape(-1, outputs[0].shape[-1])
    mean, variance = values.mean(0), values.var(0)
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance)
    if layer.scale:
        layer.gamma.assign(np.sqrt(variance + layer.epsilon))
    layer.beta.assign(bias + mean)


def _kernels(proto: onnx.ModelProto) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Kernels, as Keras lays them out, and biases of the convolutions and matrix products, in the graph's order."""
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    kernels = []
    for node in proto.graph.node:
        if node.op_type == "Conv":
            kernel = arrays[node.input[1]].transpose(2, 3, 1, 0)
            bias = arrays[node.input[2]] if len(node.input) > 2 else np.zeros(kernel.shape[-1], np.float32)
            kernels.append((kernel, bias))
        elif node.op_type == "MatMul" and node.input[1] in arrays:
            kernel = arrays[node.input[1]]
            kernels.append((kernel, np.zeros(kernel.shape[-1], np.float32)))
    return kernels
