"""A bundle's ONNX file -> the float form of its graph.

Two forms of a model are kept apart. The *served* form computes what the file does. The *float* form computes the same
without rounding: QuantizeLinear and DequantizeLinear between nodes pass their values through. In both, constants are
folded, so that integer weights become the floats that they stand for, and tensors keep their names.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
import onnx
from onnx import helper, numpy_helper, version_converter

from contract.network import sessions
from contract.network.errors import CannotExplain
from contract.network.graph import IMAGE_AXES, LAYOUT, PLANE_AXES, Array, Graph, Node

OLDEST_OPSET: Final = 13
"""Gradients are written in this opset's operators; older graphs are converted."""
QUANTISATION: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})
_ON_PLANES: Final = frozenset(
    {
        "Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool",
        "BatchNormalization", "InstanceNormalization", "LRN",
    }
)  # fmt: skip
"""Operators whose input is (N, C, H, W) by their definition, and whose output is the same."""
_REDUCTIONS: Final = frozenset({"ReduceMean", "ReduceMax", "ReduceSum", "ReduceMin", "ReduceL2"})


def read(proto: onnx.ModelProto, *, rounding: bool = False) -> Graph:
    """The float form of a bundle's model, or with `rounding` the served form, with its shapes measured.

    Raises:
        CannotExplain: its opset cannot be converted, or it does not run without quantisation.
    """
    if _opset(proto) < OLDEST_OPSET:
        proto = _converted(proto)
    constants, nodes = _folded(proto)
    for node in nodes:
        if any(attribute.HasField("g") and _reads_outside(attribute.g) for attribute in node.attribute):
            raise CannotExplain(f"{node.op_type} {node.name!r} holds a part of the network, which is not looked into")
    (given,) = (value for value in proto.graph.input if value.name not in constants)
    shape = (2, *(dim.dim_value for dim in given.type.tensor_type.shape.dim[1:]))
    outputs = tuple(value.name for value in proto.graph.output)
    opsets = tuple((opset.domain, opset.version) for opset in proto.opset_import)
    passed = frozenset() if rounding else QUANTISATION
    made = _nodes(nodes, passed, outputs)
    graph = Graph(made, constants, given.name, outputs, {given.name: shape}, {}, opsets)
    graph = _measured(graph.between(given.name, outputs))
    return dataclasses.replace(graph, roles=_roles(graph))


def _opset(proto: onnx.ModelProto) -> int:
    return max((opset.version for opset in proto.opset_import if opset.domain in ("", "ai.onnx")), default=1)


def _reads_outside(graph: onnx.GraphProto) -> bool:
    """Whether an inner graph reads tensors of the outer one, which are not among its node's inputs."""
    own = {value.name for value in (*graph.input, *graph.initializer)}
    own |= {name for node in graph.node for name in node.output}
    return any(name and name not in own for node in graph.node for name in node.input)


def _converted(proto: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return version_converter.convert_version(proto, OLDEST_OPSET)
    except Exception as error:  # what it raises has no base of its own
        raise CannotExplain(f"a graph of opset {_opset(proto)} cannot be read: {str(error).splitlines()[0]}") from None


def _folded(proto: onnx.ModelProto) -> tuple[dict[str, Array], list[onnx.NodeProto]]:
    """The constants of a graph, with those that are computed from others, and the nodes that remain."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    known, fixed, rest = set(constants), [], []
    for node in proto.graph.node:
        if all(not name or name in known for name in node.input) and "Random" not in node.op_type:
            known |= set(node.output)
            fixed.append(node)
        else:
            rest.append(node)
    wanted = [name for node in fixed for name in node.output if name]
    if wanted:
        part = helper.make_graph(
            fixed, "constants", [], [onnx.ValueInfoProto(name=name) for name in wanted], proto.graph.initializer
        )
        model = helper.make_model(part, opset_imports=proto.opset_import, ir_version=proto.ir_version)
        constants |= dict(zip(wanted, sessions.session(model).run(wanted, {}), strict=True))
    return constants, rest


def _nodes(nodes: list[onnx.NodeProto], passed: frozenset[str], outputs: tuple[str, ...]) -> tuple[Node, ...]:
    """The nodes but those of the operators `passed`, whose readers read what these read."""
    instead: dict[str, str] = {}
    kept = []
    for place, node in enumerate(nodes):
        operator, inputs = node.op_type, tuple(instead.get(name, name) for name in node.input)
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if operator in passed:
            if node.output[0] not in outputs:
                instead[node.output[0]] = inputs[0]
                continue
            operator, inputs, attributes = "Identity", inputs[:1], {}
        domain = "" if node.domain == "ai.onnx" else node.domain
        name = node.name or f"{operator}_{place}"
        kept.append(Node(operator, domain, name, inputs, tuple(node.input), tuple(node.output), attributes))
    return tuple(kept)


def _measured(graph: Graph) -> Graph:
    """With the shape of every tensor, as two images of noise give it."""
    names = [name for node in graph.nodes for name in node.outputs if name]
    shape = graph.shapes[graph.input]
    noise = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    try:
        values = sessions.session(graph.to_proto(names)).run(names, {graph.input: noise})
    except Exception as error:  # onnxruntime's exceptions share no base but Exception
        where = " by ".join(map(str, shape[1:]))
        raise CannotExplain(f"the graph does not run in float32 at {where}: {str(error).splitlines()[0]}") from None
    shapes = {name: tuple(np.shape(value)) for name, value in zip(names, values, strict=True)}
    constants = {name: value.shape for name, value in graph.constants.items()}
    return dataclasses.replace(graph, shapes={**graph.shapes, **constants, **shapes})


def resized(graph: Graph, height: int, width: int) -> Graph:
    """The same part of a network for images of another size.

    Raises:
        CannotExplain: it does not run at that size.
    """
    shape = (2, height, width, *graph.shapes[graph.input][3:])
    return _measured(dataclasses.replace(graph, shapes={graph.input: shape}))


def _roles(graph: Graph) -> dict[str, tuple[str, ...]]:
    """What each tensor's axes are, as far as it can be told."""
    roles: dict[str, tuple[str, ...]] = {graph.input: IMAGE_AXES} if len(graph.shapes[graph.input]) == 4 else {}
    for node in graph.nodes:
        for name in node.outputs:
            output_roles = _output_roles(graph, node, roles) if name else None
            if output_roles and len(output_roles) == len(graph.shapes[name]):
                roles[name] = output_roles
    return roles


def _output_roles(graph: Graph, node: Node, roles: dict[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    inputs = graph.dynamic(node)
    rank = len(graph.shapes[node.output])
    if node.operator in _ON_PLANES and rank == 4:
        return PLANE_AXES
    if rank == 2 and node.operator in (LAYOUT | {"MatMul", "Gemm"}):
        return ("N", "C")  # whatever was laid out in rows and columns is one list of channels now
    before = next((roles[name] for name in inputs if name in roles and len(graph.shapes[name]) == rank), None)
    if node.operator == "Transpose":
        given = roles.get(node.inputs[0])
        order = node.attributes.get("perm", tuple(reversed(range(rank))))
        return tuple(given[place] for place in order) if given else None
    if node.operator in ("Reshape", "Flatten"):
        same = graph.shapes[node.inputs[0]] == graph.shapes[node.output]
        return before if same else None
    if node.operator in ("Squeeze", *_REDUCTIONS):
        return _reduced(graph, node, roles.get(node.inputs[0]), rank)
    if node.operator in ("Unsqueeze", "MatMul", "Gather", "Shape"):
        return None
    return before


def _reduced(graph: Graph, node: Node, given: tuple[str, ...] | None, rank: int) -> tuple[str, ...] | None:
    if given is None or rank == len(given):
        return given
    axes = graph.reduced_axes(node)
    return tuple(role for place, role in enumerate(given) if place not in axes)
