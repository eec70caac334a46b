"""The layers of a network, as a person speaks of them, found in its ONNX graph."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from contract.network import patterns, receptive_field
from contract.network.errors import UnknownChannel, UnknownLayer, UnknownUnit
from contract.network.graph import LAYOUT, Graph, Node
from contract.network.receptive_field import Field
from contract.network.window import Window

Kind = Literal[
    "convolution", "pooling", "global pooling", "dense", "activation", "normalisation", "sum", "product", "scaling",
    "concatenation", "softmax", "other",
]  # fmt: skip
Size = tuple[int, int, int]

IMAGES: Final = "images"
"""What layers call the network's input."""

_KINDS: Final[dict[str, tuple[Kind, str]]] = {
    "Conv": ("convolution", "conv"), "ConvTranspose": ("convolution", "deconv"),
    "MaxPool": ("pooling", "pool"), "AveragePool": ("pooling", "pool"), "LpPool": ("pooling", "pool"),
    "GlobalMaxPool": ("global pooling", "globalpool"), "GlobalAveragePool": ("global pooling", "globalpool"),
    "Gemm": ("dense", "dense"), "MatMul": ("dense", "dense"),
    "BatchNormalization": ("normalisation", "norm"), "LayerNormalization": ("normalisation", "norm"),
    "InstanceNormalization": ("normalisation", "norm"), "LRN": ("normalisation", "norm"),
    "Concat": ("concatenation", "concat"), "Softmax": ("softmax", "softmax"), "LogSoftmax": ("softmax", "softmax"),
}  # fmt: skip
"""By operator: the kind, and what its layers are called."""
_ARITHMETIC: Final[dict[str, Kind]] = {"Add": "sum", "Sub": "sum", "Sum": "sum", "Mul": "product", "Div": "product"}


@dataclass(frozen=True)
class Layer:
    """A layer: a node of the graph, or a few that belong together.

    Attributes:
        id: its kind and its number among those, as in `conv2`.
        kind: what it does.
        node: the node that does it; the last of them where an activation takes several.
        members: all of its nodes.
        function: of an activation, as in `Relu` or `Gelu`.
        source: the tensor that it reads first.
        tensor: the tensor that it gives.
        inputs: the ids of the layers that it reads from.
        input, output: rows, columns and channels; None where the axes are not known to be these.
        field: the receptive field of its units.
        window: what slides; None where nothing does.
        parameters: numbers that were learnt.
        multiply_adds: for one image.
    """

    id: str
    kind: Kind
    node: Node
    members: tuple[Node, ...]
    function: str | None
    source: str
    tensor: str
    inputs: tuple[str, ...]
    input: Size | None
    output: Size | None
    field: Field
    window: Window | None
    parameters: int
    multiply_adds: int

    def describe(self) -> dict[str, Any]:
        """For a reply."""
        window = self.window if self.kind in ("convolution", "pooling", "global pooling") else None
        return {
            "layer": self.id,
            "name": self.node.name,
            "kind": self.kind,
            "operator": self.node.operator,
            "activation": self.function,
            "inputs": list(self.inputs),
            "input": self.input,
            "output": self.output,
            "kernel": window and window.kernel,
            "stride": window and window.stride,
            "dilation": window and window.dilation,
            "padding": window and [window.before[0], window.before[-1], window.after[0], window.after[-1]],
            "groups": self.node.attributes.get("group", 1) if self.kind == "convolution" else None,
            "size": window and {"rows": window.formula(0), "columns": window.formula(len(window.kernel) - 1)},
            "receptive_field": self.field.size,
            "jump": self.field.jump,
            "origin": self.field.origin,
            "whole": self.field.whole,
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "has_kernels": self.kind == "convolution" and self.node.operator == "Conv",
        }

    def check_channel(self, channel: int) -> None:
        """Raise `UnknownChannel` unless the layer has that channel."""
        channels = self.output[2] if self.output else 0
        if not 0 <= channel < channels:
            raise UnknownChannel(f"{self.id} has no channel {channel}: its channels are 0 to {channels - 1}")

    def check_unit(self, unit: Size) -> None:
        """Raise `UnknownUnit` unless the layer has a unit at that row, column and channel."""
        size = self.output or (0, 0, 0)
        if not all(0 <= place < side for place, side in zip(unit, size, strict=True)):
            rows, columns, channels = size
            raise UnknownUnit(
                f"{self.id} has no unit {','.join(map(str, unit))}: give row,column,channel from 0,0,0 to "
                f"{rows - 1},{columns - 1},{channels - 1}"
            )


@dataclass(frozen=True)
class Layers:
    """The layers of a graph, in order."""

    graph: Graph
    all: tuple[Layer, ...]
    by_tensor: dict[str, Layer] = field(repr=False)

    @classmethod
    def of(cls, graph: Graph) -> Layers:
        """Find the layers of a graph."""
        layers = tuple(_found(graph))
        return cls(graph, layers, {layer.tensor: layer for layer in layers})

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.all)

    def find(self, name: str) -> Layer:
        """The layer of that id, or whose node the graph calls so.

        Raises:
            UnknownLayer: there is none; the message lists the ids.
        """
        for layer in self.all:
            if name in (layer.id, layer.node.name):
                return layer
        raise UnknownLayer(f"there is no layer {name[:80]!r}: choose from {', '.join(layer.id for layer in self.all)}")

    def giving(self, tensor: str) -> Layer | None:
        """The layer that a tensor has its values from, whatever moved them since; None for the image."""
        while tensor not in self.by_tensor:
            node = self.graph.producers.get(tensor)
            if node is None or node.operator not in LAYOUT:
                return None
            tensor = node.inputs[0]
        return self.by_tensor[tensor]

    def activation_of(self, layer: Layer) -> Layer | None:
        """The activation that alone reads a layer."""
        readers = [other for other in self.all if layer.id in other.inputs]
        return readers[0] if len(readers) == 1 and readers[0].kind == "activation" else None


def _found(graph: Graph) -> Iterator[Layer]:
    fields, counts = receptive_field.fields(graph), Counter[str]()
    gates = patterns.gates(graph)
    biases = patterns.biases(graph)
    inner = {id(node) for gate in gates.values() for node in gate.members[:-1]}
    inner |= {id(bias) for bias in biases.values()}
    owner: dict[str, str] = {graph.input: IMAGES}
    for node in graph.nodes:
        dynamic = [name for name in graph.dynamic(node) if name in owner]
        if id(node) in inner or not dynamic or node.output not in fields:
            if dynamic and node.output in fields:
                owner.update({name: owner[dynamic[0]] for name in node.outputs if name not in owner})
            continue
        if node.operator in LAYOUT:
            owner[node.output] = owner[dynamic[0]]
            continue
        gate, bias = gates.get(node.output), biases.get(node.output)
        kind, word = _kind(graph, node, gate is not None)
        function = gate.function if gate else (node.operator if kind == "activation" else None)
        if function:
            word = function.lower()
        counts[word] += 1
        sources = [gate.source] if gate else dynamic
        members = gate.members if gate else ((node, bias) if bias else (node,))
        output = members[-1].output
        slides = kind in ("convolution", "pooling") or node.operator.startswith("Global")
        layer = Layer(
            id=f"{word}{counts[word]}",
            kind=kind,
            node=node,
            members=members,
            function=function,
            source=sources[0],
            tensor=output,
            inputs=tuple(dict.fromkeys(owner[name] for name in sources)),
            input=graph.size(sources[0]),
            output=graph.size(output),
            field=fields[output],
            window=Window.of(graph, node) if slides and len(graph.shapes[node.output]) == 4 else None,
            parameters=_parameters(graph, members, kind),
            multiply_adds=_multiply_adds(graph, node),
        )
        owner[node.output] = owner[output] = layer.id
        yield layer


def _kind(graph: Graph, node: Node, gated: bool) -> tuple[Kind, str]:
    operator, dynamic = node.operator, graph.dynamic(node)
    if gated or operator in patterns.ACTIVATIONS:
        return "activation", operator.lower()
    if operator == "MatMul" and len(dynamic) > 1:
        return "other", "matmul"
    if operator in _KINDS:
        return _KINDS[operator]
    if operator in _ARITHMETIC:
        return (_ARITHMETIC[operator] if len(dynamic) > 1 else "scaling"), operator.lower()
    if operator.startswith("Reduce"):
        before, after = graph.size(node.inputs[0]), graph.size(node.output)
        if before and after and before[2] == after[2] and after[:2] == (1, 1):
            return "global pooling", "globalpool"
    return "other", operator.lower()


def _parameters(graph: Graph, members: tuple[Node, ...], kind: Kind) -> int:
    if kind in ("other", "pooling", "global pooling"):
        return 0
    names = dict.fromkeys(name for node in members for name in node.inputs if name in graph.constants)
    return sum(graph.constants[name].size for name in names if graph.constants[name].size > 1)


def _multiply_adds(graph: Graph, node: Node) -> int:
    if node.operator == "Conv":
        kernel = graph.shapes[node.inputs[1]]
        return math.prod(graph.shapes[node.output][2:]) * math.prod(kernel)
    if node.operator in ("MatMul", "Gemm"):
        inner = graph.shapes[node.inputs[0]][-1]
        return math.prod(graph.shapes[node.output][1:]) * inner
    return 0
