"""Rules for products of matrices, reductions, and operators that move values."""

from __future__ import annotations

import math

from contract.network.errors import CannotExplain
from contract.network.gradient.tape import Tape, rule
from contract.network.graph import Node


@rule("MatMul")
def matmul(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """g Bᵀ, and Aᵀ g."""
    a, b = node.inputs
    shape = tape.shape(node.output)
    if min(len(tape.shape(a)), len(tape.shape(b))) < 2:
        raise CannotExplain(f"{node.name!r} multiplies a matrix with a list of numbers")
    left = (*shape[:-1], tape.shape(a)[-1])
    right = (*shape[:-2], tape.shape(b)[-2], shape[-1])
    gradients = {}
    if a not in tape.graph.constants:
        gradients[0] = tape.unbroadcast(tape.op("MatMul", g, _swapped(tape, b)), left, a)
    if b not in tape.graph.constants:
        gradients[1] = tape.unbroadcast(tape.op("MatMul", _swapped(tape, a), g), right, b)
    return gradients


@rule("Gemm")
def gemm(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """alpha g Bᵀ, for kernels that are constants."""
    tape.graph.weights(node, 1)  # weights that depend on the image would need a gradient, too
    turned = node.attributes.get("transB", 0)
    product = tape.op("Gemm", g, node.inputs[1], alpha=node.attributes.get("alpha", 1.0), transB=1 - turned)
    return {0: tape.op("Transpose", product, perm=[1, 0]) if node.attributes.get("transA", 0) else product}


@rule("GlobalAveragePool", "GlobalMaxPool")
def global_pool(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """1 / n for a mean; 1 for the largest value, split equally where several are."""
    axes = tuple(range(2, len(tape.shape(node.inputs[0]))))
    return {0: _reduced(tape, node, g, axes, "Mean" if node.operator == "GlobalAveragePool" else "Max")}


@rule("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")
def reduce(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """As `global_pool`, over the axes that the node names; 1 for a sum."""
    axes = tape.graph.reduced_axes(node)
    if not node.attributes.get("keepdims", 1):
        g = tape.op("Unsqueeze", g, tape.integers(*axes))
    return {0: _reduced(tape, node, g, axes, node.operator.removeprefix("Reduce"))}


def _reduced(tape: Tape, node: Node, g: str, axes: tuple[int, ...], kind: str) -> str:
    x, y = node.inputs[0], node.output
    if kind in ("Max", "Min"):
        if not node.attributes.get("keepdims", 1):
            y = tape.op("Unsqueeze", y, tape.integers(*axes))
        mask = tape.mask(tape.op("Equal", x, y))
        return tape.op("Mul", mask, tape.op("Div", g, tape.total(mask, axes)))
    if kind == "Mean":
        g = tape.op("Mul", g, tape.value(1 / math.prod(tape.shape(x)[axis] for axis in axes)))
    return tape.op("Expand", g, tape.op("Shape", x))


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """The same values in the input's shape."""
    return {0: tape.like(g, node.inputs[0])}


@rule("Transpose")
def transpose(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """The axes back in their places."""
    rank = len(tape.shape(node.inputs[0]))
    order = list(node.attributes.get("perm", reversed(range(rank))))
    return {0: tape.op("Transpose", g, perm=[order.index(place) for place in range(rank)])}


@rule("Identity", "Dropout", "Cast")
def identity(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """1: what is cast here are floats."""
    return {0: g}


@rule("Expand")
def expand(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """The sum over what was repeated."""
    return {0: tape.unbroadcast(g, tape.shape(node.output), node.inputs[0])}


@rule("Concat")
def concat(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """Each input's own part."""
    axis, start, gradients = node.attributes["axis"], 0, {}
    for place, name in enumerate(node.inputs):
        end = start + tape.shape(name)[axis]
        gradients[place] = tape.part(g, [start], [end], [axis])
        start = end
    return gradients


@rule("Pad")
def pad(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """What lies inside the border, which is a constant."""
    pads = tape.graph.constant(node, 1)
    if pads is None or node.attributes.get("mode", b"constant") != b"constant" or (pads < 0).any():
        raise CannotExplain(f"{node.name!r} pads with more than a constant")
    if len(node.inputs) > 3 and node.inputs[3]:
        raise CannotExplain(f"{node.name!r} pads some axes alone")
    shape = tape.shape(node.inputs[0])
    axes = [axis for axis in range(len(shape)) if pads[axis] or pads[axis + len(shape)]]
    if not axes:
        return {0: g}
    starts = [int(pads[axis]) for axis in axes]
    return {0: tape.part(g, starts, [start + shape[axis] for start, axis in zip(starts, axes, strict=True)], axes)}


@rule("Slice")
def cut(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """Zeros around the part that was kept."""
    shape = tape.shape(node.inputs[0])
    starts, ends, axes, steps = (tape.graph.constant(node, place) for place in (1, 2, 3, 4))
    if starts is None or ends is None or (steps is not None and (steps != 1).any()):
        raise CannotExplain(f"{node.name!r} takes every second value or fewer")
    before, after = [0] * len(shape), [0] * len(shape)
    for place, axis in enumerate(range(len(starts)) if axes is None else axes.tolist()):
        first, last, _ = slice(int(starts[place]), int(ends[place])).indices(shape[axis])
        before[axis], after[axis] = first, shape[axis] - last
    return {0: tape.padded(g, before, after)}


@rule("Gather")
def gather(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """Zeros around the one place that was taken, such as a class token."""
    indices = tape.graph.constant(node, 1)
    shape = tape.shape(node.inputs[0])
    axis = node.attributes.get("axis", 0) % len(shape)
    if indices is None or indices.size != 1:
        raise CannotExplain(f"{node.name!r} gathers from several places")
    if indices.ndim == 0:
        g = tape.op("Unsqueeze", g, tape.integers(axis))
    place = int(indices.reshape(-1)[0]) % shape[axis]
    before, after = [0] * len(shape), [0] * len(shape)
    before[axis], after[axis] = place, shape[axis] - place - 1
    return {0: tape.padded(g, before, after)}


def _swapped(tape: Tape, tensor: str) -> str:
    rank = len(tape.shape(tensor))
    return tape.op("Transpose", tensor, perm=[*range(rank - 2), rank - 1, rank - 2])
