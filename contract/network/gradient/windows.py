"""Rules for convolutions and poolings."""

from __future__ import annotations

import itertools
import math

import numpy as np

from contract.network.errors import CannotExplain
from contract.network.gradient.tape import Tape, rule
from contract.network.graph import Node
from contract.network.window import Window

_LOWEST = float(np.finfo(np.float32).min)


@rule("Conv")
def conv(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """The transposed convolution with the same kernels (Dumoulin and Visin 2016, arXiv:1603.07285)."""
    tape.graph.weights(node, 1)  # kernels that depend on the image would need a gradient, too
    window = Window.of(tape.graph, node)
    return {0: _scattered(tape, window, g, node.inputs[1], node.attributes.get("group", 1))}


@rule("MaxPool")
def max_pool(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """1 for the largest value of a window, split equally where several are (quantised maps often tie)."""
    x, y = node.inputs[0], node.output
    window = Window.of(tape.graph, node)
    before, after = window.border()
    wide = tape.padded(x, (0, 0, *before), (0, 0, *after), _LOWEST)
    axes = range(2, 2 + len(window.kernel))
    masks = []
    for place in itertools.product(*map(range, window.kernel)):
        starts = [step * dilation for step, dilation in zip(place, window.dilation, strict=True)]
        ends = [
            start + (n - 1) * stride + 1 for start, n, stride in zip(starts, window.output, window.stride, strict=True)
        ]
        seen = tape.part(wide, starts, ends, axes, window.stride)
        masks.append(tape.mask(tape.op("Equal", seen, y)))
    share = tape.op("Div", g, tape.op("Sum", *masks)) if len(masks) > 1 else g
    index_one = tape.integers(2)
    parts = [tape.op("Unsqueeze", tape.op("Mul", share, mask), index_one) for mask in masks]
    stacked = tape.op("Concat", *parts, axis=2) if len(parts) > 1 else parts[0]
    places = len(masks)
    planes = tape.op("Reshape", stacked, tape.integers(-1, places, *window.output))
    kernel = tape.value(np.eye(places).reshape(places, 1, *window.kernel))
    return {0: tape.like(_scattered(tape, window, planes, kernel), x)}


@rule("AveragePool")
def average_pool(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """1 / n for each of the n values of a window."""
    window = Window.of(tape.graph, node)
    counts = np.full(window.output, math.prod(window.kernel), np.float32)
    if not node.attributes.get("count_include_pad", 0):
        counts = window.counts()
    elif node.attributes.get("ceil_mode", 0):
        raise CannotExplain(f"{node.name!r} averages over a border that is rounded up")
    planes = tape.op("Reshape", tape.op("Div", g, tape.value(counts)), tape.integers(-1, 1, *window.output))
    kernel = tape.value(np.ones((1, 1, *window.kernel)))
    return {0: tape.like(_scattered(tape, window, planes, kernel), node.inputs[0])}


def _scattered(tape: Tape, window: Window, g: str, kernel: str, group: int = 1) -> str:
    """Each output's gradient times the kernel, added up where the outputs' windows lie; the border is cut off."""
    wide = tape.op(
        "ConvTranspose",
        g,
        kernel,
        strides=window.stride,
        dilations=window.dilation,
        group=group,
        kernel_shape=window.kernel,
    )
    rank = len(window.kernel)
    missing = [
        max(0, before + inner - full)
        for before, inner, full in zip(window.before, window.input, window.extent(), strict=True)
    ]
    wide = tape.padded(wide, (0,) * (rank + 2), (0, 0, *missing))
    if not any(window.before) and window.extent() == window.input:
        return wide
    ends = [before + inner for before, inner in zip(window.before, window.input, strict=True)]
    return tape.part(wide, window.before, ends, range(2, 2 + rank))
