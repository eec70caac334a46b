"""A network with preparation before it and probabilities behind it: the graph of a bundle."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from contract.bundle import INPUT, LOGITS, PROBABILITIES
from training.export import model_file
from training.importing.class_output import ClassOutput
from training.importing.image_input import ImageInput
from training.importing.preparation import PREFIX, Preparation
from training.importing.source import Source

Batching = Literal["any", "freed", "one by one"]
"""How a network takes several images: as it is; after its fixed batch was freed; or in a loop over the images."""

_IR_VERSION: Final = 8
"""The least: since version 4, constants need not be inputs."""
_SMALLEST: Final = 1e-30
"""Probabilities below it have its logarithm as their logit."""


@dataclass(frozen=True)
class Plan:
    """All that decides the graph.

    Attributes:
        source: the file.
        image_input: its input.
        preparation: how pixels become it.
        output: its output.
        classes: how many there are.
    """

    source: Source
    image_input: ImageInput
    preparation: Preparation
    output: ClassOutput
    classes: int

    def batchings(self) -> list[Batching]:
        """How several images may be taken, the best first; whether it works is seen when it is run."""
        batch = self.image_input.batch
        if batch is None:
            return ["any", "freed", "one by one"]
        return ["freed", "one by one"] if batch == 1 else ["freed"]


def build(plan: Plan, batching: Batching, temperature: float = 1.0) -> onnx.ModelProto:
    """The graph of a bundle: uint8 `images` in, `probabilities` and `logits` out.

    Args:
        plan: what it is made of.
        batching: how it takes several images.
        temperature: what the logits are divided by before the softmax.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(plan.source.proto)
    graph = proto.graph
    own = {name: f"{PREFIX}/own/{name}" for name in (INPUT, LOGITS, PROBABILITIES)}
    _rename(graph, own)
    network_input = own.get(plan.image_input.name, plan.image_input.name)
    source_of_logits = own.get(plan.output.logits, plan.output.logits)
    if batching == "freed":
        _free_batch(graph, plan.image_input.batch or 1)
    before, constants = plan.preparation.nodes(INPUT, network_input)
    behind, more = _logits(plan, source_of_logits)
    network = _needed([*before, *graph.node, *behind], {LOGITS})
    constants = [*graph.initializer, *constants, *more]
    if batching == "one by one":
        network, constant = _loop(plan, network)
        constants += constant
    tail, last = model_file.calibration(temperature, PREFIX)
    constants += last
    size = [plan.preparation.height, plan.preparation.width, 3]
    made = helper.make_graph(
        [*network, *tail],
        graph.name or "classifier",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [model_file.BATCH, *size])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [model_file.BATCH, plan.classes])
            for name in (PROBABILITIES, LOGITS)
        ],
        _used(constants, [*network, *tail]),
    )
    made.sparse_initializer.extend(graph.sparse_initializer)
    wrapped = helper.make_model(made, opset_imports=proto.opset_import, ir_version=max(proto.ir_version, _IR_VERSION))
    wrapped.producer_name = proto.producer_name
    model_file.tidy(wrapped)
    return wrapped


def _logits(plan: Plan, tensor: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """From what the network gives to `logits`, float32 (N, classes)."""
    output = plan.output
    made: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def add(operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{PREFIX}/{operator.lower()}/{len(made)}"
        made.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(value: float) -> str:
        constants.append(numpy_helper.from_array(np.array(value, np.float32), f"{PREFIX}/logits/{len(constants)}"))
        return constants[-1].name

    if not output.is_flat:
        tensor = add("Flatten", tensor, axis=1)
    tensor = add("Cast", tensor, to=TensorProto.FLOAT)
    if output.kind == "probabilities" and not output.has_softmax:
        tensor = add("Log", add("Max", tensor, constant(_SMALLEST)))
    if output.kind in ("logit", "probability"):  # softmax([0, z]) is [1 - sigmoid(z), sigmoid(z)]
        tensor = add("Concat", add("Mul", tensor, constant(0)), tensor, axis=1)
    made[-1].output[0] = LOGITS
    return made, constants


def _loop(plan: Plan, network: list[onnx.NodeProto]) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """A Scan that runs a network of batch 1 on each image."""
    image, answer = f"{PREFIX}/image", f"{PREFIX}/answer"
    size = [plan.preparation.height, plan.preparation.width, 3]
    shapes = {f"{PREFIX}/one": [1, *size], f"{PREFIX}/classes": [plan.classes]}
    constants = [numpy_helper.from_array(np.array(shape, np.int64), name) for name, shape in shapes.items()]
    inner, given = f"{PREFIX}/inner-logits", f"{PREFIX}/inner-images"
    body = helper.make_graph(
        [helper.make_node("Reshape", [image, f"{PREFIX}/one"], [given]), *network],
        "one-image",
        [helper.make_tensor_value_info(image, TensorProto.UINT8, size)],
        [helper.make_tensor_value_info(answer, TensorProto.FLOAT, [plan.classes])],
    )
    _rename(body, {INPUT: given, LOGITS: inner})
    body.node.append(helper.make_node("Reshape", [inner, f"{PREFIX}/classes"], [answer]))
    name = f"{PREFIX}/scan"
    return [helper.make_node("Scan", [INPUT], [LOGITS], name=name, num_scan_inputs=1, body=body)], constants


def _free_batch(graph: onnx.GraphProto, batch: int) -> None:
    """Let Reshapes whose constant shape begins with the fixed batch take the batch of what they read instead."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {
        node.output[0]: node.attribute[0].t
        for node in graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    for place, node in enumerate(graph.node):
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        shape = numpy_helper.to_array(constants[node.input[1]]).copy()
        if len(shape) > 1 and shape[0] == batch:
            shape[0] = 0 if -1 in shape else -1  # as many as the input has, or as are left
            for attribute in [item for item in node.attribute if item.name == "allowzero"]:
                node.attribute.remove(attribute)
            freed = numpy_helper.from_array(shape, f"{PREFIX}/shape{place}")
            graph.initializer.append(freed)
            node.input[1] = freed.name


def _needed(nodes: list[onnx.NodeProto], tensors: set[str]) -> list[onnx.NodeProto]:
    """The nodes that compute tensors; a network's other outputs are left out."""
    wanted, kept = set(tensors), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= _read(node)
    return kept[::-1]


def _read(node: onnx.NodeProto) -> set[str]:
    """What a node reads, the nodes of its subgraphs included."""
    inside = [inner for graph in model_file.subgraphs(node) for inner in graph.node]
    return set(node.input).union(*map(_read, inside))


def _used(constants: Iterable[onnx.TensorProto], nodes: list[onnx.NodeProto]) -> list[onnx.TensorProto]:
    read = {name for node in nodes for name in _read(node)}
    return [tensor for tensor in constants if tensor.name in read]


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Rename tensors, in subgraphs too."""
    for node in graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(name, name) for name in tensors]
        for inner in model_file.subgraphs(node):
            _rename(inner, names)
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = names.get(value.name, value.name)
