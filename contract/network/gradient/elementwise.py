"""Rules for operators that work value by value, and for those that normalise."""

from __future__ import annotations

import math

import numpy as np

from contract.network.errors import CannotExplain
from contract.network.gradient.tape import Tape, rule
from contract.network.graph import Node

_ROOT_TWO_PI = math.sqrt(2 * math.pi)


@rule("Relu")
def relu(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """1 where the input is positive."""
    return {0: tape.op("Mul", g, tape.mask(tape.op("Greater", node.inputs[0], tape.value(0))))}


@rule("LeakyRelu", "Elu")
def leaky(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """1 where the input is positive; below, the slope alpha, or what Elu's exponential has there."""
    x = node.inputs[0]
    if node.operator == "LeakyRelu":
        below = tape.value(node.attributes.get("alpha", 0.01))
    else:
        below = tape.op("Add", node.output, tape.value(node.attributes.get("alpha", 1.0)))
    return {0: tape.op("Mul", g, tape.op("Where", tape.op("Greater", x, tape.value(0)), tape.value(1), below))}


@rule("PRelu")
def prelu(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """1 where the input is positive, below it the learnt slope."""
    x, slope = node.inputs
    return {0: tape.op("Mul", g, tape.op("Where", tape.op("Greater", x, tape.value(0)), tape.value(1), slope))}


@rule("Clip")
def clip(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """1 between the bounds."""
    for place, comparison in ((1, "Greater"), (2, "Less")):
        bound = tape.graph.constant(node, place)
        if bound is not None:
            inside = tape.op(comparison, node.inputs[0], tape.value(bound))
            g = tape.op("Mul", g, tape.mask(inside))
    return {0: g}


@rule("Sigmoid")
def sigmoid(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """y (1 - y)."""
    y = node.output
    return {0: tape.op("Mul", g, tape.op("Mul", y, tape.op("Sub", tape.value(1), y)))}


@rule("Tanh")
def tanh(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """1 - y²."""
    y = node.output
    return {0: tape.op("Mul", g, tape.op("Sub", tape.value(1), tape.op("Mul", y, y)))}


@rule("HardSigmoid")
def hard_sigmoid(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """alpha where the output is between 0 and 1."""
    alpha = tape.value(node.attributes.get("alpha", 0.2))
    return {0: tape.op("Mul", g, tape.op("Mul", alpha, _between(tape, node.output, 0, 1)))}


@rule("HardSwish")
def hard_swish(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """0 below -3, 1 above 3, (2x + 3) / 6 between."""
    x = node.inputs[0]
    slope = tape.op("Add", tape.op("Mul", x, tape.value(1 / 3)), tape.value(0.5))
    above = tape.mask(tape.op("Greater", x, tape.value(3)))
    inner = tape.op("Mul", slope, _between(tape, x, -3, 3))
    return {0: tape.op("Mul", g, tape.op("Add", inner, above))}


@rule("Softplus")
def softplus(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """The sigmoid."""
    return {0: tape.op("Mul", g, tape.op("Sigmoid", node.inputs[0]))}


@rule("Erf")
def erf(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """2 exp(-x²) / √π."""
    x = node.inputs[0]
    bell = tape.op("Exp", tape.op("Neg", tape.op("Mul", x, x)))
    return {0: tape.op("Mul", g, tape.op("Mul", bell, tape.value(2 / math.sqrt(math.pi))))}


@rule("Gelu")
def gelu(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """Φ(x) + x φ(x) (Hendrycks and Gimpel 2016, arXiv:1606.08415); the tanh form is differentiated as this one."""
    x = node.inputs[0]
    cumulative = tape.op("Erf", tape.op("Mul", x, tape.value(1 / math.sqrt(2))))
    cumulative = tape.op("Mul", tape.op("Add", cumulative, tape.value(1)), tape.value(0.5))
    bell = tape.op("Exp", tape.op("Mul", tape.op("Mul", x, x), tape.value(-0.5)))
    density = tape.op("Mul", bell, tape.value(1 / _ROOT_TWO_PI))
    return {0: tape.op("Mul", g, tape.op("Add", cumulative, tape.op("Mul", x, density)))}


@rule("Exp")
def exp(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """y."""
    return {0: tape.op("Mul", g, node.output)}


@rule("Log")
def log(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """1 / x."""
    return {0: tape.op("Div", g, node.inputs[0])}


@rule("Sqrt")
def sqrt(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """1 / 2y."""
    return {0: tape.op("Div", g, tape.op("Mul", node.output, tape.value(2)))}


@rule("Reciprocal")
def reciprocal(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """-y²."""
    return {0: tape.op("Mul", tape.op("Neg", g), tape.op("Mul", node.output, node.output))}


@rule("Neg")
def neg(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """-1."""
    return {0: tape.op("Neg", g)}


@rule("Abs")
def absolute(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """The sign."""
    return {0: tape.op("Mul", g, tape.op("Sign", node.inputs[0]))}


@rule("Pow")
def power(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """p x^(p - 1), for an exponent that is a constant."""
    exponent = tape.graph.constant(node, 1)
    if exponent is None or exponent.size != 1:
        raise CannotExplain(f"{node.name!r} raises to powers of several kinds")
    (p,) = exponent.reshape(-1).tolist()
    slope = tape.op("Mul", tape.op("Pow", node.inputs[0], tape.value(p - 1)), tape.value(p))
    return {0: tape.op("Mul", g, slope)}


@rule("Add", "Sub", "Sum")
def add(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """1 for each term, -1 for what is taken away."""
    shape = tape.shape(node.output)
    return {
        place: tape.unbroadcast(tape.op("Neg", g) if (node.operator, place) == ("Sub", 1) else g, shape, name)
        for place, name in enumerate(node.inputs)
    }


@rule("Mul")
def mul(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """The other factor."""
    shape = tape.shape(node.output)
    a, b = node.inputs
    return {
        0: tape.unbroadcast(tape.op("Mul", g, b), shape, a),
        1: tape.unbroadcast(tape.op("Mul", g, a), shape, b),
    }


@rule("Div")
def div(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """1 / b, and -y / b."""
    shape = tape.shape(node.output)
    a, b = node.inputs
    share = tape.op("Div", g, b)
    return {
        0: tape.unbroadcast(share, shape, a),
        1: tape.unbroadcast(tape.op("Neg", tape.op("Mul", share, node.output)), shape, b),
    }


@rule("Max", "Min")
def extreme(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """1 for the largest (smallest) input, split equally where several are."""
    shape = tape.shape(node.output)
    masks = [tape.mask(tape.op("Equal", name, node.output)) for name in node.inputs]
    share = tape.op("Div", g, tape.op("Sum", *masks)) if len(masks) > 1 else g
    return {
        place: tape.unbroadcast(tape.op("Mul", share, mask), shape, name)
        for place, (name, mask) in enumerate(zip(node.inputs, masks, strict=True))
    }


@rule("Softmax", "LogSoftmax")
def softmax(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """y (g - Σ g y); of the logarithm, g - y Σ g."""
    axis = [node.attributes.get("axis", -1)]
    y = node.output
    if node.operator == "Softmax":
        shared = tape.total(tape.op("Mul", g, y), axis)
        return {0: tape.op("Mul", y, tape.op("Sub", g, shared))}
    return {0: tape.op("Sub", g, tape.op("Mul", tape.op("Exp", y), tape.total(g, axis)))}


@rule("BatchNormalization")
def batch_normalization(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """scale / √(variance + ε), channel by channel, with the statistics of training."""
    scale, variance = (tape.graph.weights(node, place) for place in (1, 4))
    factor = scale / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    rank = len(tape.shape(node.inputs[0]))
    return {0: tape.op("Mul", g, tape.value(factor.reshape(-1, *[1] * (rank - 2))))}


@rule("LayerNormalization", "InstanceNormalization")
def layer_normalization(tape: Tape, node: Node, g: str) -> dict[int, str]:
    """(h - mean(h) - x̂ mean(h x̂)) / σ with h = g · scale (Ba et al. 2016, arXiv:1607.06450)."""
    x, scale = node.inputs[:2]
    shape = tape.shape(x)
    if node.operator == "LayerNormalization":
        axes = list(range(node.attributes.get("axis", -1) % len(shape), len(shape)))
    else:
        axes = list(range(2, len(shape)))
        scale = tape.value(tape.graph.weights(node, 1).reshape(-1, *[1] * (len(shape) - 2)))
    count = tape.value(1 / math.prod(shape[axis] for axis in axes))

    def mean(tensor: str) -> str:
        return tape.op("Mul", tape.total(tensor, axes), count)

    centred = tape.op("Sub", x, mean(x))
    variance = mean(tape.op("Mul", centred, centred))
    deviation = tape.op("Sqrt", tape.op("Add", variance, tape.value(node.attributes.get("epsilon", 1e-5))))
    normal = tape.op("Div", centred, deviation)
    h = tape.op("Mul", g, scale)
    inner = tape.op("Sub", tape.op("Sub", h, mean(h)), tape.op("Mul", normal, mean(tape.op("Mul", h, normal))))
    return {0: tape.op("Div", inner, deviation)}


def _between(tape: Tape, x: str, low: float, high: float) -> str:
    above = tape.mask(tape.op("Greater", x, tape.value(low)))
    return tape.op("Mul", above, tape.mask(tape.op("Less", x, tape.value(high))))
