"""Nodes that belong together: activations that exporters write as several nodes, and the bias of a dense layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from contract.network.graph import Graph, Node

ACTIVATIONS: Final = frozenset(
    {
        "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Clip", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish",
        "Softplus", "Softsign", "Gelu", "Mish", "Swish", "ThresholdedRelu", "Log",
    }
)  # fmt: skip
_STEPS: Final = frozenset({"Sigmoid", "Tanh", "HardSigmoid", "Softplus", "Erf", "Clip", "Mul", "Div", "Add", "Sub"})
"""What may stand between a value and the gate that it is multiplied by."""
_GELU_SLOPE: Final = 1.702


@dataclass(frozen=True)
class Gate:
    """A value times a function of itself.

    Attributes:
        function: Gelu, Swish, HardSwish or Mish.
        source: the tensor of the value.
        members: the nodes, the last of which gives the product.
    """

    function: str
    source: str
    members: tuple[Node, ...]


def gates(graph: Graph) -> dict[str, Gate]:
    """Activations of the form x·f(x), by the tensor that they give."""
    by_tensor: dict[str, Gate] = {}
    for node in graph.nodes:
        if node.operator == "Mul" and len(graph.dynamic(node)) == 2:
            gate = _gate(graph, node)
            if gate:
                by_tensor[gate.members[-1].output] = gate
    return by_tensor


def biases(graph: Graph) -> dict[str, Node]:
    """The node that adds a bias to a product of matrices, by the tensor of the product."""
    by_tensor: dict[str, Node] = {}
    for node in graph.nodes:
        readers = graph.consumers.get(node.output, [])
        if node.operator != "MatMul" or len(readers) != 1 or node.output in graph.outputs:
            continue
        (reader,) = readers
        constants = [graph.constants[name] for name in reader.inputs if name in graph.constants]
        width = graph.shapes[node.output][-1]
        if reader.operator == "Add" and len(constants) == 1 and constants[0].size == width > 1:
            by_tensor[node.output] = reader
    return by_tensor


def _gate(graph: Graph, product: Node) -> Gate | None:
    chains = [_chain(graph, name) for name in product.inputs]
    source = next((name for name in chains[0] if name in chains[1]), None)
    if source is None:
        return None
    nodes = [chain[name] for chain in chains for name in list(chain)[: list(chain).index(source)]]
    members = [node for node in nodes if node is not None]
    operators = {node.operator for node in members}
    function = _function(graph, members, operators)
    if function is None or any(not _is_inside(graph, node, (*members, product)) for node in members):
        return None
    last = product
    readers = graph.consumers.get(product.output, [])
    halves = [reader for reader in readers if reader.operator in ("Mul", "Div") and len(graph.dynamic(reader)) == 1]
    if "Erf" in operators and len(readers) == len(halves) == 1:  # x·(1 + erf(x / √2)) / 2
        members.append(product)
        (last,) = halves
    return Gate(function, source, (*sorted(members, key=graph.nodes.index), last))


def _chain(graph: Graph, tensor: str) -> dict[str, Node | None]:
    """A tensor and what it was computed from value by value, each with its node."""
    chain: dict[str, Node | None] = {}
    while True:
        node = graph.producers.get(tensor)
        steps = node is not None and node.operator in _STEPS and len(graph.dynamic(node)) == 1
        chain[tensor] = node if steps else None
        if node is None or not steps:
            return chain
        (tensor,) = graph.dynamic(node)


def _function(graph: Graph, members: list[Node], operators: set[str]) -> str | None:
    if "Erf" in operators:
        return "Gelu"
    if {"Softplus", "Tanh"} <= operators:
        return "Mish"
    if "HardSigmoid" in operators or "Clip" in operators:
        return "HardSwish"
    if "Sigmoid" in operators:
        slopes = [
            float(graph.constants[name])
            for node in members
            if node.operator == "Mul"
            for name in node.inputs
            if name in graph.constants and graph.constants[name].size == 1
        ]
        return "Gelu" if any(abs(slope - _GELU_SLOPE) < 1e-3 for slope in slopes) else "Swish"
    return None


def _is_inside(graph: Graph, node: Node, members: tuple[Node, ...]) -> bool:
    """Whether nobody else reads what a node gives."""
    readers = graph.consumers.get(node.output, [])
    return node.output not in graph.outputs and all(reader in members for reader in readers)
