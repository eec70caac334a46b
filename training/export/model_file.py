"""The file of a model: tidied, written without a card to be measured, then written with its card."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from contract.bundle import CARD, LOGITS, MODEL, PROBABILITIES, Bundle
from contract.card import Card
from training.evaluation.calibrate import LEAST_SHARE

BATCH: Final = "batch"
"""The name of the batch dimension of every input and output."""


def tidy(proto: onnx.ModelProto) -> None:
    """Name the first dimension of inputs and outputs `BATCH`; remove unused operator sets and inferred shapes.

    Converters give each tensor's batch dimension a name of its own, and list operator sets that no node is from. Shapes
    of intermediate tensors are inferred by whoever loads the graph.

    Args:
        proto: changed in place.
    """
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    del proto.graph.value_info[:]
    used = {_domain(node) for node in nodes(proto)}
    needed = [operator_set for operator_set in proto.opset_import if _domain(operator_set) in used]
    del proto.opset_import[:]
    proto.opset_import.extend(needed)


def _domain(item: onnx.NodeProto | onnx.OperatorSetIdProto) -> str:
    """Return the operator set's name; that of the standard operators may be written as nothing or as `ai.onnx`."""
    return "" if item.domain == "ai.onnx" else str(item.domain)


def nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield all nodes, including those of subgraphs and of functions."""
    waiting = [*proto.graph.node, *(node for function in proto.functions for node in function.node)]
    while waiting:
        node = waiting.pop()
        yield node
        for graph in subgraphs(node):
            waiting.extend(graph.node)


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The branches of an If, the body of a Loop or a Scan."""
    return [
        graph
        for attribute in node.attribute
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else []))
    ]


def calibration(
    temperature: float, prefix: str, *, share: float = 0.0
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return the nodes from `logits` to `probabilities`, and their constants.

    Args:
        temperature: what the logits are divided by.
        prefix: of the names.
        share: the label smoothing's share of each class, which is taken back first; see `calibrate.unsmoothed`.
    """
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    last = LOGITS

    def add(operator: str, name: str, constant: float | None = None, **attributes: Any) -> None:
        nonlocal last
        inputs, output = [last], f"{prefix}/{name}"
        if constant is not None:
            constants.append(onnx.numpy_helper.from_array(np.array(constant, np.float32), f"{output}/constant"))
            inputs.append(constants[-1].name)
        nodes.append(onnx.helper.make_node(operator, inputs, [output], name=output, **attributes))
        last = output

    if share:
        add("Softmax", "smoothed", axis=-1)
        add("Sub", "unsmoothed", share)
        add("Clip", "least", LEAST_SHARE * share)
        add("Log", "logarithm")
    if temperature != 1:
        add("Div", "divided", temperature)
    add("Softmax", "softmax", axis=-1)
    nodes[-1].output[0] = PROBABILITIES
    return nodes, constants


def set_calibration(proto: onnx.ModelProto, temperature: float, label_smoothing: float | None = None) -> None:
    """Let the graph give probabilities of another calibration; it is changed in place.

    Args:
        proto: a bundle's graph.
        temperature: what the logits are divided by.
        label_smoothing: what the network was trained with and is taken back, if anything; see `calibrate.unsmoothed`.
    """
    (logits,) = [output for output in proto.graph.output if output.name == LOGITS]
    share = label_smoothing / logits.type.tensor_type.shape.dim[-1].dim_value if label_smoothing else 0.0
    graph, behind, network = proto.graph, {LOGITS}, []
    for node in graph.node:
        if behind.isdisjoint(node.input):
            network.append(node)
        else:
            behind.update(node.output)
    tail, constants = calibration(temperature, "calibrated", share=share)
    used = {name for node in network for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend([*network, *tail])
    graph.initializer.extend([*kept, *constants])


def save_draft(proto: onnx.ModelProto, card: Card, folder: Path) -> Bundle:
    """Write `model.onnx` alone, so that the model can be measured; its card is in the returned bundle only."""
    draft = Bundle(folder, card)
    draft.model.write_bytes(proto.SerializeToString())
    return draft


def write(proto: onnx.ModelProto, card: Card, folder: Path) -> Bundle:
    """Write `model.onnx`, with the card in its metadata, and `card.json` into a folder; return the bundle.

    The card's `cost.bytes` becomes the size of the model file.
    """
    model, size = b"", None
    while size != len(model):  # the card is inside the file whose size it has: repeated until the size is right
        size = len(model)
        card = dataclasses.replace(card, cost=dataclasses.replace(card.cost, bytes=size))
        onnx.helper.set_model_props(proto, {"card": card.to_json()})
        model = proto.SerializeToString()
    (folder / MODEL).write_bytes(model)
    (folder / CARD).write_text(card.to_json(), encoding="utf-8")
    return Bundle(folder, card)
