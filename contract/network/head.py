"""Where the last feature maps of a network are, and how its head takes their positions together."""

from __future__ import annotations

from typing import Final, Literal

from contract.network.errors import CannotExplain
from contract.network.graph import LAYOUT, Graph, Node

Pooling = Literal["mean", "max", "flatten", "none"]

_SCALINGS: Final = frozenset({"Add", "Sub", "Mul", "Div"})


def find(graph: Graph, score: str) -> tuple[str, Pooling]:
    """The tensor of the last maps, and how they are pooled on the way to the score, which is linear in what comes out.

    Raises:
        CannotExplain: it is not.
    """
    tensor, is_linear = score, False
    while node := graph.producers.get(tensor):
        before = _linear_input(graph, node)
        pooling = _pooling(graph, node)
        if pooling != "none" and is_linear:
            return node.inputs[0], pooling
        if before is None:
            break
        is_linear = is_linear or node.operator not in (LAYOUT | _SCALINGS)
        if _positions(graph, before) > 1:
            return _checked(graph, before, is_linear), "flatten"
        tensor = before
    return _checked(graph, tensor, is_linear), "none"


def _checked(graph: Graph, tensor: str, is_linear: bool) -> str:
    if not is_linear or tensor not in graph.roles:
        raise CannotExplain("the logits are not linear in the last maps")
    return tensor


def _positions(graph: Graph, tensor: str) -> int:
    size = graph.size(tensor)
    return size[0] * size[1] if size else 1


def _pooling(graph: Graph, node: Node) -> Pooling:
    names: dict[str, Pooling] = {
        "GlobalAveragePool": "mean", "ReduceMean": "mean", "AveragePool": "mean",
        "GlobalMaxPool": "max", "ReduceMax": "max", "MaxPool": "max",
    }  # fmt: skip
    if node.operator not in names or _positions(graph, node.output) > 1:
        return "none"
    before, after = graph.size(node.inputs[0]), graph.size(node.output)
    return names[node.operator] if before and after and before[2] == after[2] else "none"


def _linear_input(graph: Graph, node: Node) -> str | None:
    """What a node is a linear function of, apart from a constant."""
    dynamic = graph.dynamic(node)
    if len(dynamic) != 1:
        return None
    if node.operator in LAYOUT or node.operator in ("MatMul", "Gemm", "BatchNormalization", "Add", "Sub", "Mul"):
        return dynamic[0]
    if node.operator == "Div" and node.inputs[0] == dynamic[0]:
        return dynamic[0]
    if node.operator == "Conv" and _positions(graph, node.output) == 1:
        return dynamic[0]
    return None
