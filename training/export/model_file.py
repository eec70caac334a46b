"""The file of a model: tidied, written without a card to be measured, then written with its card."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from contract.bundle import CARD, LOGITS, MODEL, PROBABILITIES, Bundle
from contract.card import Card

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


def softmax(temperature: float, prefix: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return the nodes from `logits` to `probabilities`, and their constants.

    Args:
        temperature: what the logits are divided by.
        prefix: of the names.
    """
    name = f"{prefix}/softmax"
    if temperature == 1:
        return [onnx.helper.make_node("Softmax", [LOGITS], [PROBABILITIES], name=name, axis=-1)], []
    constant = onnx.numpy_helper.from_array(np.array(temperature, np.float32), f"{prefix}/temperature")
    divided = f"{prefix}/divided"
    return [
        onnx.helper.make_node("Div", [LOGITS, constant.name], [divided], name=divided),
        onnx.helper.make_node("Softmax", [divided], [PROBABILITIES], name=name, axis=-1),
    ], [constant]


def set_temperature(proto: onnx.ModelProto, temperature: float) -> None:
    """Divide the logits by another temperature before the softmax; the graph is changed in place."""
    graph, behind, network = proto.graph, {LOGITS}, []
    for node in graph.node:
        if behind.isdisjoint(node.input):
            network.append(node)
        else:
            behind.update(node.output)
    tail, constants = softmax(temperature, "calibrated")
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
