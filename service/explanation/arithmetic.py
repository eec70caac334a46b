"""How one value of a layer arises: receptive field, kernel, their product channel by channel, sum, bias, activation.

After "The Inner Workings of Convolutional Nets": what is shown adds up to what the network computed, and a term
`rounding` has what float32's, or int8's, own arithmetic makes of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from contract.network.errors import CannotExplain
from contract.network.form import Form
from contract.network.graph import Array
from contract.network.layers import IMAGES, Kind, Layer, Size
from contract.network.window import Window
from contract.preprocessing import Pixels
from service.explanation.heat_map import rounded

Part = dict[str, Any]

_DIGITS: Final = 10
"""What float32 has, and a few more: values are rounded by the largest of them, and what is shown must add up."""


def explain(form: Form, image: Pixels, layer: Layer, unit: Size) -> Part:
    """The arithmetic of one value.

    Args:
        form: the model.
        image: uint8 (1, H, W, 3).
        layer: which layer.
        unit: row, column and channel.

    Returns:
        For a reply: `unit`, `value`, `region` (the pixels it depends on), and the parts that its kind has.

    Raises:
        UnknownUnit: the layer has none there.
        CannotExplain: its axes are not known, or it does what is not taken apart here.
    """
    if layer.output is None:
        raise CannotExplain(f"{layer.id} has no rows, columns and channels")
    layer.check_unit(unit)
    if layer.kind not in _PARTS:
        raise _whole(layer)
    values = _Values(form, image, layer)
    value = float(values.at(layer.tensor, unit))
    top, left, bottom, right = layer.field.region(unit[0], unit[1], (image.shape[1], image.shape[2]))
    activation = form.layers.activation_of(layer)
    return {
        "layer": layer.id,
        "kind": layer.kind,
        "operator": layer.node.operator,
        "unit": unit,
        "value": _digits(value),
        "region": {"top": top, "left": left, "bottom": bottom, "right": right},
        **_PARTS[layer.kind](values, layer, unit, value),
        "activation": activation
        and {
            "layer": activation.id,
            "function": activation.function,
            "value": _digits(float(_Values(form, image, activation).at(activation.tensor, unit))),
        },
    }


class _Values:
    """Tensors of the served form for one image, as they are asked for."""

    def __init__(self, form: Form, image: Pixels, layer: Layer) -> None:
        self.form, self.graph = form, form.graph
        reads = {name for node in layer.members for name in (*node.reads, *node.inputs) if name}
        wanted = [name for name in (layer.tensor, *sorted(reads)) if name not in form.served.constants]
        known = {form.graph.input, *form.served.shapes}
        wanted = [name for name in dict.fromkeys(wanted) if name in known]
        self._tensors = dict(zip(wanted, form.tensors(image, wanted), strict=True))

    def whole(self, tensor: str) -> Array:
        """All of a tensor, or of a constant."""
        return self._tensors[tensor] if tensor in self._tensors else self.form.served.constants[tensor]

    def at(self, tensor: str, unit: Size) -> Array:
        """A tensor's value at a unit."""
        return np.asarray(self.whole(tensor)[self.index(tensor, unit)])

    def index(self, tensor: str, unit: Size) -> tuple[int, ...]:
        """Where a unit is in a tensor."""
        place = dict(zip("HWC", unit, strict=True))
        return tuple(place.get(role, 0) for role in self.graph.roles[tensor])


def _convolution(values: _Values, layer: Layer, unit: Size, value: float) -> Part:
    node, window = layer.node, layer.window
    if window is None or node.operator != "Conv":
        raise _whole(layer)
    kernels = values.whole(node.reads[1])
    bias = values.whole(node.reads[2])[unit[2]] if len(node.reads) > 2 and node.reads[2] else 0.0
    taken = _patch(values.whole(node.reads[0])[0], window, unit)
    per_group = len(kernels) // node.attributes.get("group", 1)
    first = unit[2] // per_group * kernels.shape[1]
    products = taken[first : first + kernels.shape[1]] * kernels[unit[2]]
    sums = products.sum((1, 2), dtype=np.float64)
    total = float(sums.sum())
    return {
        **_read_from(values, layer),
        "window": _described(
            window, unit[0] * window.stride[0] - window.before[0], unit[1] * window.stride[1] - window.before[1]
        ),
        "channels": [
            {
                "channel": first + place,
                "input": _list(taken[first + place]),
                "kernel": _list(kernels[unit[2], place]),
                "product": _list(products[place]),
                "sum": _digits(float(sums[place])),
            }
            for place in range(len(products))
        ],
        **_sum(total, float(bias), value),
    }


def _dense(values: _Values, layer: Layer, unit: Size, value: float) -> Part:
    node, graph = layer.node, values.graph
    if node.operator == "Gemm":
        turned = node.attributes.get("transB", 0)
        weights = values.whole(node.reads[1])
        weights = (weights[unit[2]] if turned else weights[:, unit[2]]) * node.attributes.get("alpha", 1.0)
        bias: Any = 0.0
        if len(node.reads) > 2 and node.reads[2]:
            offsets = np.broadcast_to(values.whole(node.reads[2]), graph.shapes[node.output])
            bias = offsets[0, unit[2]] * node.attributes.get("beta", 1.0)
        taken = values.whole(node.reads[0])[0]
    else:
        place = 0 if node.reads[0] in values.form.served.constants else 1
        if place == 0 or len(graph.shapes[node.output]) != 2:
            raise _whole(layer)
        weights, taken = values.whole(node.reads[1])[:, unit[2]], values.whole(node.reads[0])[0]
        bias = 0.0
        if len(layer.members) > 1:
            adder = layer.members[1]
            (offset,) = (name for name in adder.reads if name in values.form.served.constants)
            bias = np.broadcast_to(values.whole(offset), graph.shapes[adder.output])[0, unit[2]]
    products = taken * weights
    total = float(products.sum(dtype=np.float64))
    return {
        **_read_from(values, layer),
        "terms": [
            {"channel": channel, "input": activation, "weight": weight, "product": product}
            for channel, (activation, weight, product) in enumerate(
                zip(_list(taken), _list(weights), _list(products), strict=True)
            )
        ],
        **_sum(total, float(bias), value),
    }


def _pooling(values: _Values, layer: Layer, unit: Size, value: float) -> Part:
    node, graph = layer.node, values.graph
    source = node.reads[0]
    maps = graph.as_images(node.inputs[0], values.whole(source))[0]
    window = layer.window
    if window is None:
        window = Window((maps.shape[0], maps.shape[1]), maps.shape[:2], (1, 1), (0, 0), (0, 0), maps.shape[:2], (1, 1))
    top, left = (place * s - b for place, s, b in zip(unit, window.stride, window.before, strict=False))
    rows = _inside(top, window.kernel[0], window.dilation[0], maps.shape[0])
    columns = _inside(left, window.kernel[1], window.dilation[1], maps.shape[1])
    taken = maps[np.ix_(rows, columns)][:, :, unit[2]]
    is_max = "Max" in node.operator
    part: Part = {
        **_read_from(values, layer),
        "function": "maximum" if is_max else "mean",
        "window": _described(window, top, left),
        "input": _list(taken),
        "rows": rows,
        "columns": columns,
        "chosen": [],
        "rounding": _digits(value - float(taken.max() if is_max else taken.mean(dtype=np.float64))),
    }
    if is_max:
        part["chosen"] = [[rows[row], columns[column]] for row, column in np.argwhere(taken == taken.max())]
    return part


def _pointwise(values: _Values, layer: Layer, unit: Size, value: float) -> Part:
    inputs: list[Part] = []
    pairs = zip(layer.node.inputs, layer.node.reads, strict=True)
    for own, read in [(layer.source, layer.source)] if layer.kind == "activation" else pairs:
        if not own:
            continue
        if own in values.form.graph.constants:
            spread = np.broadcast_to(values.whole(read), values.graph.shapes[layer.node.output])
            inputs.append(
                {"layer": None, "constant": True, "value": _digits(float(spread[values.index(layer.tensor, unit)]))}
            )
            continue
        shape = values.graph.shapes[layer.tensor]
        spread = np.broadcast_to(values.whole(read), (1, *shape[1:]))
        owner = values.form.layers.giving(own)
        inputs.append(
            {
                "layer": owner.id if owner else IMAGES,
                "constant": False,
                "value": _digits(float(spread[values.index(layer.tensor, unit)])),
            }
        )
    return {"function": layer.function or layer.node.operator, "inputs": inputs}


def _normalisation(values: _Values, layer: Layer, unit: Size, value: float) -> Part:
    node = layer.node
    if node.operator != "BatchNormalization":
        raise _whole(layer)
    names = ("scale", "bias", "mean", "variance")
    constants = {
        name: _digits(float(values.whole(read)[unit[2]])) for name, read in zip(names, node.reads[1:5], strict=True)
    }
    before = float(values.at(node.reads[0] if node.reads[0] in values.graph.roles else node.inputs[0], unit))
    return {
        **_read_from(values, layer),
        "function": "scale · (x - mean) / √(variance + epsilon) + bias",
        "input": _digits(before),
        **constants,
        "epsilon": node.attributes.get("epsilon", 1e-5),
    }


def _concatenation(values: _Values, layer: Layer, unit: Size, value: float) -> Part:
    roles, axis = values.graph.roles[layer.tensor], layer.node.attributes["axis"]
    place = dict(zip("HWC", unit, strict=True))
    offset = place[roles[axis]]
    for name in layer.node.inputs:
        side = values.graph.shapes[name][axis]
        if offset < side:
            owner = values.form.layers.giving(name)
            place[roles[axis]] = offset
            return {
                "inputs": [
                    {"layer": owner.id if owner else IMAGES, "unit": list(place.values()), "value": _digits(value)}
                ]
            }
        offset -= side
    raise AssertionError("a unit lies in one of the parts")


def _softmax(values: _Values, layer: Layer, unit: Size, value: float) -> Part:
    logits = values.graph.as_images(layer.node.inputs[0], values.whole(layer.node.reads[0]))[0, unit[0], unit[1]]
    shifted = np.exp(logits.astype(np.float64) - logits.max())
    return {
        **_read_from(values, layer),
        "function": "exp(x - largest) / sum of these",
        "largest": _digits(float(logits.max())),
        "terms": [
            {"channel": channel, "input": logit, "exponential": power}
            for channel, (logit, power) in enumerate(zip(_list(logits), _list(shifted), strict=True))
        ],
        "sum": _digits(float(shifted.sum())),
    }


_PARTS: Final[dict[Kind, Callable[[_Values, Layer, Size, float], Part]]] = {
    "convolution": _convolution,
    "dense": _dense,
    "pooling": _pooling,
    "global pooling": _pooling,
    "activation": _pointwise,
    "sum": _pointwise,
    "product": _pointwise,
    "scaling": _pointwise,
    "normalisation": _normalisation,
    "concatenation": _concatenation,
    "softmax": _softmax,
}


def _sum(total: float, bias: float, value: float) -> Part:
    return {"sum": _digits(total), "bias": _digits(bias), "rounding": _digits(value - total - bias)}


def _whole(layer: Layer) -> CannotExplain:
    return CannotExplain(f"what {layer.id} ({layer.node.operator}) computes is not taken apart: choose another layer")


def _described(window: Window, top: int, left: int) -> Part:
    return {
        "top": top,
        "left": left,
        "kernel": window.kernel,
        "stride": window.stride,
        "dilation": window.dilation,
    }


def _read_from(values: _Values, layer: Layer) -> Part:
    owner = values.form.layers.giving(layer.source)
    return {"input_layer": owner.id if owner else IMAGES}


def _patch(maps: Array, window: Window, unit: Size) -> Array:
    """The values under a window, (channels, *kernel), with zeros where it lies on the padding."""
    patch = np.zeros((len(maps), *window.kernel), maps.dtype)
    for row in range(window.kernel[0]):
        for column in range(window.kernel[1]):
            y = unit[0] * window.stride[0] - window.before[0] + row * window.dilation[0]
            x = unit[1] * window.stride[1] - window.before[1] + column * window.dilation[1]
            if 0 <= y < maps.shape[1] and 0 <= x < maps.shape[2]:
                patch[:, row, column] = maps[:, y, x]
    return patch


def _inside(start: int, count: int, dilation: int, side: int) -> list[int]:
    return [place for place in range(start, start + count * dilation, dilation) if 0 <= place < side]


def _list(values: Array) -> Any:
    return rounded(values, _DIGITS)


def _digits(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else value
