"""Every rule of differentiation beside finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from contract.network import sessions
from contract.network.errors import CannotExplain
from contract.network.gradient import Gradient, derive
from contract.network.gradient.tape import RULES
from contract.network.graph import Graph
from tests.support import graphs
from tests.support.graphs import NodeSpec

_RNG = np.random.default_rng(0)
_STEP = 0.01


def some(*shape: int) -> Any:
    return _RNG.normal(0, 0.5, shape).astype(np.float32)


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


F = np.float32
SHAPE = (2, 5, 6)
CONV = ("Conv", ["images", some(4, 2, 3, 3), some(4)])
UNARY: list[tuple[str, dict[str, Any]]] = [
    ("Relu", {}), ("LeakyRelu", {"alpha": 0.2}), ("Elu", {"alpha": 0.7}), ("Sigmoid", {}), ("Tanh", {}),
    ("HardSigmoid", {"alpha": 0.3}), ("HardSwish", {}), ("Softplus", {}), ("Erf", {}), ("Exp", {}), ("Neg", {}),
    ("Abs", {}), ("Softmax", {"axis": -1}), ("Softmax", {"axis": 1}), ("LogSoftmax", {}), ("Identity", {}),
    ("GlobalMaxPool", {}), ("GlobalAveragePool", {}), ("ReduceMax", {"axes": [2, 3], "keepdims": 0}),
    ("ReduceMean", {"axes": [1], "keepdims": 1}), ("ReduceMin", {"axes": [-1]}), ("Flatten", {}),
    ("Transpose", {"perm": [0, 2, 3, 1]}), ("Transpose", {"perm": [0, 3, 1, 2]}), ("Cast", {"to": 1}),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}), ("MaxPool", {"kernel_shape": [2, 2]}),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("MaxPool", {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [0, 1, 1, 0], "ceil_mode": 1}),
    ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 2]}),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
]  # fmt: skip
CASES: dict[str, list[NodeSpec]] = {
    **{f"{operator}{attributes}": [(operator, ["images"], "y", attributes)] for operator, attributes in UNARY},
    "Conv": [(*CONV, "y", {})],
    "Conv, same": [(*CONV, "y", {"pads": [1, 1, 1, 1]})],
    "Conv, stride 2": [(*CONV, "y", {"pads": [0, 0, 1, 1], "strides": [2, 2]})],
    "Conv, stride 3 that leaves some": [(*CONV, "y", {"pads": [1, 0, 0, 0], "strides": [3, 4]})],
    "Conv, SAME_UPPER": [(*CONV, "y", {"auto_pad": "SAME_UPPER", "strides": [2, 2]})],
    "Conv, dilated": [(*CONV, "y", {"dilations": [2, 2], "pads": [1, 1, 1, 1]})],
    "Conv, grouped": [("Conv", ["images", some(6, 1, 2, 3)], "y", {"group": 2, "pads": [1, 1, 1, 1]})],
    "Clip": [("Clip", ["images", F(-0.8), F(0.6)], "y", {})],
    "Clip, above alone": [("Clip", ["images", "", F(0.6)], "y", {})],
    "PRelu": [("PRelu", ["images", some(2, 1, 1)], "y", {})],
    "Gelu": [("Gelu", ["images"], "y", {})],
    "Log": [("Abs", ["images"], "a", {}), ("Add", ["a", F(0.5)], "b", {}), ("Log", ["b"], "y", {})],
    "Sqrt": [("Abs", ["images"], "a", {}), ("Add", ["a", F(0.5)], "b", {}), ("Sqrt", ["b"], "y", {})],
    "Reciprocal": [("Abs", ["images"], "a", {}), ("Add", ["a", F(1)], "b", {}), ("Reciprocal", ["b"], "y", {})],
    "Pow": [("Pow", ["images", F(3)], "y", {})],
    "Add, broadcast": [("Add", ["images", some(2, 1, 1)], "y", {})],
    "Add to itself": [("Tanh", ["images"], "a", {}), ("Add", ["a", "images"], "y", {})],
    "Sub": [("Tanh", ["images"], "a", {}), ("Sub", ["a", "images"], "y", {})],
    "Sum": [("Tanh", ["images"], "a", {}), ("Sum", ["a", "images", "a"], "y", {})],
    "Mul": [("Sigmoid", ["images"], "a", {}), ("Mul", ["a", "images"], "y", {})],
    "Mul, by a channel's mean": [("GlobalAveragePool", ["images"], "a", {}), ("Mul", ["images", "a"], "y", {})],
    "Mul, from fewer axes": [
        ("ReduceMean", ["images"], "a", {"axes": [0, 1, 2], "keepdims": 0}),
        ("Mul", ["images", some(6)], "b", {}),
        ("Mul", ["b", F(3)], "y", {}),
    ],
    "Div": [("Exp", ["images"], "a", {}), ("Div", ["images", "a"], "y", {})],
    "Max": [("Neg", ["images"], "a", {}), ("Max", ["images", "a", F(0.3)], "y", {})],
    "Min": [("Min", ["images", F(0.3)], "y", {})],
    "BatchNormalization": [
        ("BatchNormalization", ["images", some(2), some(2), some(2), np.abs(some(2)) + F(0.5)], "y", {})
    ],
    "LayerNormalization": [("LayerNormalization", ["images", some(6), some(6)], "y", {})],
    "LayerNormalization, two axes": [("LayerNormalization", ["images", some(5, 6)], "y", {"axis": 2})],
    "InstanceNormalization": [("InstanceNormalization", ["images", some(2), some(2)], "y", {})],
    "MatMul": [("MatMul", ["images", some(6, 3)], "y", {})],
    "MatMul, on the left": [("MatMul", [some(3, 5), "images"], "y", {})],
    "MatMul, by itself": [
        ("Transpose", ["images"], "t", {"perm": [0, 1, 3, 2]}),
        ("MatMul", ["images", "t"], "y", {}),
    ],
    "Gemm": [("Flatten", ["images"], "a", {}), ("Gemm", ["a", some(60, 4), some(4)], "y", {"alpha": 0.5})],
    "Gemm, turned": [("Flatten", ["images"], "a", {}), ("Gemm", ["a", some(4, 60)], "y", {"transB": 1})],
    "ReduceSum": [("ReduceSum", ["images", ints(2)], "y", {"keepdims": 0})],
    "Reshape": [("Reshape", ["images", ints(-1, 10, 6)], "y", {})],
    "Unsqueeze": [("Unsqueeze", ["images", ints(2)], "y", {})],
    "Squeeze": [("GlobalMaxPool", ["images"], "a", {}), ("Squeeze", ["a", ints(2, 3)], "y", {})],
    "Squeeze, all": [("ReduceSum", ["images", ints(2)], "a", {}), ("Squeeze", ["a"], "y", {})],
    "Expand": [("ReduceSum", ["images", ints(2)], "a", {}), ("Expand", ["a", ints(1, 1, 4, 1)], "y", {})],
    "Concat": [("Tanh", ["images"], "a", {}), ("Concat", ["images", "a", "images"], "y", {"axis": 1})],
    "Pad": [("Pad", ["images", ints(0, 0, 1, 2, 0, 0, 0, 1), F(3)], "y", {})],
    "Slice": [("Slice", ["images", ints(1, -4), ints(99, -1), ints(2, 3)], "y", {})],
    "Gather": [("Gather", ["images", np.array(-2)], "y", {"axis": 2})],
    "Gather, kept": [("Gather", ["images", ints(1)], "y", {"axis": 1})],
    "Dropout": [("Dropout", ["images"], "y", {})],
}


def distinct(*shape: int) -> Any:
    """Values that are further apart than the step, and as far from where a function has a corner."""
    count = int(np.prod(shape))
    return ((_RNG.permutation(count) - count // 2 + 0.5) * 0.05).reshape(shape).astype(np.float32)


def slopes(graph: Graph, image: Any, weights: Any) -> Any:
    """The gradient of the weighted sum of the output, by central differences."""
    session = sessions.session(graph.to_proto())
    steps = np.eye(image.size, dtype=np.float32).reshape(image.size, *image.shape) * _STEP
    up, down = (session.run(None, {"images": image + steps * sign})[0].astype(np.float64) for sign in (1, -1))
    return (((up - down) * weights).reshape(image.size, -1).sum(1) / (2 * _STEP)).reshape(image.shape)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_agrees_with_finite_differences(name: str) -> None:
    graph = graphs.graph(SHAPE, CASES[name], opset=20 if name == "Gelu" else 17)
    image = distinct(*SHAPE)
    weights = some(*graph.shapes["y"][1:])
    _, _, (gradient,) = Gradient(graph, "y", ["images"])(image[None], weights)
    np.testing.assert_allclose(gradient[0], slopes(graph, image, weights), atol=2e-3, rtol=5e-3)


def test_every_rule_has_a_case() -> None:
    assert set(RULES) <= {node[0] for nodes in CASES.values() for node in nodes}


def test_equal_maxima_share() -> None:
    nodes: list[NodeSpec] = [("MaxPool", ["images"], "y", {"kernel_shape": [2, 2], "strides": [2, 2]})]
    graph = graphs.graph((1, 2, 4), nodes)
    image = np.array([[[[1, 1, 5, 2], [1, 0, 5, 2]]]], np.float32)
    _, _, (gradient,) = Gradient(graph, "y", ["images"])(image, np.ones((1, 1, 2)))
    np.testing.assert_allclose(gradient[0, 0], [[1 / 3, 1 / 3, 0.5, 0], [1 / 3, 0, 0.5, 0]], atol=1e-6)


def test_images_of_a_batch_do_not_mix() -> None:
    nodes: list[NodeSpec] = [
        (*CONV, "a", {"pads": [1, 1, 1, 1]}),
        ("Relu", ["a"], "b", {}),
        ("MaxPool", ["b"], "c", {"kernel_shape": [3, 3], "strides": [2, 2]}),
        ("GlobalAveragePool", ["c"], "d", {}),
        ("Flatten", ["d"], "e", {}),
        ("MatMul", ["e", some(4, 3)], "y", {}),
    ]
    gradient = Gradient(graphs.graph(SHAPE, nodes), "y", ["images", "b"])
    images, weights = some(3, *SHAPE), some(3, 3)
    _, _, together = gradient(images, weights)
    for place in range(3):
        _, _, alone = gradient(images[place : place + 1], weights[place])
        for ours, theirs in zip(together, alone, strict=True):
            np.testing.assert_allclose(ours[place], theirs[0], atol=1e-5)


def test_an_operator_without_a_rule_is_named() -> None:
    nodes: list[NodeSpec] = [("Cos", ["images"], "a", {}), ("Sin", ["a"], "y", {})]
    with pytest.raises(CannotExplain, match="no gradient of Cos, Sin"):
        derive(graphs.graph(SHAPE, nodes), "y", ["images"])
