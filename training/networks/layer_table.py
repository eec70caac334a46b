"""A table of a network's layers: sizes, receptive fields, parameters, multiply-adds."""

from __future__ import annotations

import dataclasses
import math

import keras
import numpy as np

from contract.card import Layer


def table(model: keras.Model) -> list[Layer]:
    """Return the layers of a model (N, H, W, 3) -> (N, classes), in order.

    An output of a window that slides measures (m + 2p - k) / s + 1, rounded down, where m is the input's side, p the
    padding, k the kernel's side and s the stride. Its receptive field is that of its input, and k - 1 of the input's
    own steps more; a step is the product of the strides so far (Araujo et al. 2019, doi:10.23915/distill.00021).
    Parameters of a normalisation are counted with the layer before it.
    """
    side = max(model.input_shape[1:3])
    fields: dict[str, tuple[int, int]] = {}  # by tensor: its receptive field and step
    rows: list[Layer] = []
    for layer in model.layers:
        inputs = [] if isinstance(layer, keras.layers.InputLayer) else keras.tree.flatten(layer.input)
        before = [fields[tensor.name] for tensor in inputs]
        field, step = (max(values) for values in zip(*before, strict=True)) if before else (1, 1)
        kernel, stride, padding, kind = _window(layer)
        if kind in ("dense", "global pooling"):
            field = side
        elif kind:
            field, step = min(side, field + (kernel - 1) * step), step * stride
        fields.update((tensor.name, (field, step)) for tensor in keras.tree.flatten(layer.output))
        if kind:
            rows.append(
                Layer(
                    layer.name, kind, kernel, stride, padding, _output(layer), field, layer.count_params(), _work(layer)
                )
            )
        elif rows and layer.count_params():
            rows[-1] = dataclasses.replace(rows[-1], parameters=rows[-1].parameters + layer.count_params())
    return rows


def _window(layer: keras.Layer) -> tuple[int, int, float, str]:
    """Return kernel, stride, padding and kind; an empty kind for a layer that is not listed."""
    if isinstance(layer, keras.layers.Conv2D):
        kernel, stride, kind = layer.kernel_size[0], layer.strides[0], "convolution"
    elif isinstance(layer, keras.layers.DepthwiseConv2D):
        kernel, stride, kind = layer.kernel_size[0], layer.strides[0], "depthwise convolution"
    elif isinstance(layer, keras.layers.MaxPooling2D):
        kernel, stride, kind = layer.pool_size[0], layer.strides[0], "pooling"
    elif isinstance(layer, keras.layers.GlobalMaxPooling2D | keras.layers.GlobalAveragePooling2D):
        return 0, 0, 0, "global pooling"
    elif isinstance(layer, keras.layers.Dense):
        return 0, 0, 0, "dense"
    else:
        return 0, 0, 0, ""
    before, after = layer.input.shape[1], layer.output.shape[1]
    padding = max(0, (after - 1) * stride + kernel - before) / 2 if layer.padding == "same" else 0.0
    return kernel, stride, padding, kind


def _output(layer: keras.Layer) -> tuple[int, int, int]:
    shape = tuple(layer.output.shape[1:])
    return shape if len(shape) == 3 else (1, 1, shape[-1])


def _work(layer: keras.Layer) -> int:
    if not isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D | keras.layers.Dense):
        return 0
    height, width, _ = _output(layer)
    return height * width * math.prod(int(n) for n in np.shape(layer.kernel))
