"""A trained network -> `model.onnx`, through tf2onnx, with checks of the graph and of its answers.

TensorFlow is needed here whatever has trained: networks of any Keras backend come here as arrays.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import onnx

from contract import bundle
from contract.errors import KernelscopeError
from contract.preprocessing import Pixels
from contract.session import open_session
from training.evaluation.calibrate import softmax
from training.loop.trainer import predict
from training.networks import architectures

OPSET: Final = 17
"""tf2onnx writes 18, too, but there it does not move a transposition past a maximum."""
BATCH: Final = "batch"
"""The name of the batch dimension of every input and output."""
PARITY: Final = 1e-4
"""The largest difference in probability between Keras and onnxruntime that passes."""
PARITY_BATCHES: Final = (1, 7, 64)


class ExportError(KernelscopeError):
    """What came out of the conversion is not what went in; nothing is published."""


def require_tensorflow() -> None:
    """Raise `ExportError` where Keras runs on another backend: tf2onnx reads TensorFlow's graphs."""
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"export needs Keras on TensorFlow, this is {keras.backend.backend()}: on a machine that has TensorFlow, "
            "repeat the same command with KERAS_BACKEND=tensorflow and --resume"
        )


def in_form(network: architectures.Network, trained: keras.Model, classes: int, *, for_export: bool) -> keras.Model:
    """The trained network anew, in float32, as it was trained or in the form that is exported."""
    with architectures.precision("float32"):
        size = trained.input_shape[1], trained.input_shape[2]
        return architectures.copy_weights(trained, network.build(size, classes, for_export=for_export))


def convert(model: keras.Model, temperature: float) -> onnx.ModelProto:
    """Convert to the graph of a bundle: uint8 images in, calibrated probabilities and raw logits out.

    Raises:
        ExportError: the graph has a batch normalisation that did not fold, or is transposed more than once.
    """
    import tensorflow as tf
    import tf2onnx

    _, height, width, channels = model.input_shape
    signature = [tf.TensorSpec((None, height, width, channels), tf.uint8, name=bundle.INPUT)]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]  # tensorflow is untyped
    def graph(images: Any) -> dict[str, Any]:
        raw = model(tf.cast(images, tf.float32), training=False)
        return {bundle.PROBABILITIES: tf.nn.softmax(raw / temperature), bundle.LOGITS: raw}

    proto: onnx.ModelProto
    proto, _ = tf2onnx.convert.from_function(graph, input_signature=signature, opset=OPSET)
    tidy(proto)
    check_graph(proto)
    return proto


def tidy(proto: onnx.ModelProto) -> None:
    """Name the first dimension of inputs and outputs `BATCH`; drop operator sets and shapes that nothing needs.

    Converters give each tensor's batch dimension a name of its own, and list operator sets that no node is from. Shapes
    of what lies between are inferred anew by whoever loads the graph.

    Args:
        proto: changed in place.
    """
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    del proto.graph.value_info[:]
    used = {_domain(node) for node in _nodes(proto)}
    needed = [one for one in proto.opset_import if _domain(one) in used]
    del proto.opset_import[:]
    proto.opset_import.extend(needed)


def _domain(of: onnx.NodeProto | onnx.OperatorSetIdProto) -> str:
    """The operator set's name; that of the standard operators may be written as nothing or as `ai.onnx`."""
    return "" if of.domain == "ai.onnx" else str(of.domain)


def _nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of subgraphs (the branches of an If, the body of a Loop) and of functions included."""
    waiting = [*proto.graph.node, *(node for function in proto.functions for node in function.node)]
    while waiting:
        node = waiting.pop()
        yield node
        for attribute in node.attribute:
            for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                waiting.extend(graph.node)


def check_graph(proto: onnx.ModelProto) -> None:
    """Raise `ExportError` unless the graph is valid, folded, and laid out once."""
    onnx.checker.check_model(proto)
    nodes = Counter(node.op_type for node in proto.graph.node)
    if nodes["BatchNormalization"]:
        raise ExportError(f"{nodes['BatchNormalization']} batch normalisations did not fold into a convolution")
    if nodes["Transpose"] > 1:
        raise ExportError(f"the graph transposes its images {nodes['Transpose']} times; once is enough")
    names = {value.name for value in (*proto.graph.input, *proto.graph.output)}
    if names != {bundle.INPUT, bundle.PROBABILITIES, bundle.LOGITS}:
        raise ExportError(f"the graph's inputs and outputs are called {sorted(names)}")


def check_parity(of: bundle.Bundle, model: keras.Model, images: Pixels) -> float:
    """Compare a bundle with Keras on real images at batches of 1, 7 and 64.

    Args:
        of: the bundle, as written.
        model: the network in the form that was trained, in float32.
        images: uint8 (N, H, W, 3); the first 64 are used.

    Returns:
        The largest difference in probability.

    Raises:
        ExportError: it is not below `PARITY`.
    """
    session = open_session(of)
    worst = 0.0
    for size in PARITY_BATCHES:
        batch = images[np.arange(size) % len(images)]
        (ours,) = session.run([bundle.PROBABILITIES], {bundle.INPUT: batch})
        worst = max(worst, float(np.abs(ours - softmax(predict(model, batch), of.card.temperature)).max()))
    if not worst < PARITY:
        raise ExportError(f"onnxruntime and Keras differ by {worst:.1e} in probability; at most {PARITY} is allowed")
    return worst


def write(proto: onnx.ModelProto, card: bundle.Card, folder: Path) -> bundle.Bundle:
    """Write `model.onnx`, with the card inside, and `card.json` to a folder; returns the bundle.

    Its card says in `cost` how many bytes the model has.
    """
    model, size = b"", None
    while size != len(model):  # the card is in the model, and names its size
        size = len(model)
        card = dataclasses.replace(card, cost=dataclasses.replace(card.cost, bytes=size))
        onnx.helper.set_model_props(proto, {"card": card.to_json()})
        model = proto.SerializeToString()
    (folder / bundle.MODEL).write_bytes(model)
    (folder / bundle.CARD).write_text(card.to_json(), encoding="utf-8")
    return bundle.Bundle(folder, card)
