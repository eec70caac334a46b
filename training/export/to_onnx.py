"""Convert a trained network to `model.onnx` with tf2onnx, and check the graph and its answers.

The export needs TensorFlow, whatever backend trained the network: weights are passed on as arrays.
"""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from typing import Any, Final

import keras
import numpy as np
import onnx

from contract.bundle import INPUT, LOGITS, PROBABILITIES, Bundle
from contract.errors import KernelscopeError
from contract.preprocessing import Pixels
from contract.session import open_session
from training.evaluation.calibrate import softmax
from training.export import model_file
from training.export.fold import fold
from training.loop.trainer import predict
from training.networks import architectures

OPSET: Final = 17
"""tf2onnx can write 18 too, but then it leaves a transposition behind each max-pooling."""
PARITY: Final = 1e-4
"""The largest difference in probability between Keras and onnxruntime that passes."""
PARITY_BATCHES: Final = (1, 7, 64)


class ExportError(KernelscopeError):
    """A network that cannot be exported, or whose exported form differs from it; nothing is published."""


def can_export() -> bool:
    """Whether Keras runs on TensorFlow, whose graphs tf2onnx reads. Asked before a training starts.

    Raises:
        ExportError: Keras runs on TensorFlow, but tf2onnx is not installed.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    if find_spec("tf2onnx") is None:
        raise ExportError("tf2onnx, which the export needs, is not installed: pip install 'kernelscope[train]'")
    return True


def not_exported() -> ExportError:
    """What a training ends with where `can_export` is false: how to export its checkpoint."""
    return ExportError(
        f"export needs Keras on TensorFlow, this is {keras.backend.backend()}: on a machine that has TensorFlow, "
        "repeat the same command with KERAS_BACKEND=tensorflow and --resume"
    )


def in_form(network: architectures.Network, trained: keras.Model, classes: int, *, for_export: bool) -> keras.Model:
    """Build the trained network again, in float32, in the form that was trained or in the form that is exported."""
    with architectures.precision("float32"):
        size = trained.input_shape[1], trained.input_shape[2]
        return architectures.copy_weights(trained, network.build(size, classes, for_export=for_export))


def convert(model: keras.Model, temperature: float) -> onnx.ModelProto:
    """Convert a network to the graph of a bundle: uint8 images in, calibrated probabilities and raw logits out.

    Args:
        model: the network in the form for export.
        temperature: what the logits are divided by before the softmax.

    Raises:
        ExportError: a batch normalisation did not fold into a convolution, or the graph transposes more than once.
    """
    import tensorflow as tf
    import tf2onnx

    _, height, width, channels = model.input_shape
    signature = [tf.TensorSpec((None, height, width, channels), tf.uint8, name=INPUT)]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]  # tensorflow is untyped
    def graph(images: Any) -> dict[str, Any]:
        raw = model(tf.cast(images, tf.float32), training=False)
        return {PROBABILITIES: tf.nn.softmax(raw / temperature), LOGITS: raw}

    proto: onnx.ModelProto
    proto, _ = tf2onnx.convert.from_function(graph, input_signature=signature, opset=OPSET)
    fold(proto)
    model_file.tidy(proto)
    check_graph(proto)
    return proto


def check_graph(proto: onnx.ModelProto) -> None:
    """Raise `ExportError` unless the graph is valid, folded, and laid out once."""
    onnx.checker.check_model(proto)
    nodes = Counter(node.op_type for node in proto.graph.node)
    if nodes["BatchNormalization"]:
        raise ExportError(f"{nodes['BatchNormalization']} batch normalisations did not fold into a convolution")
    if nodes["Transpose"] > 1:
        raise ExportError(f"the graph transposes its images {nodes['Transpose']} times; once is enough")
    names = {value.name for value in (*proto.graph.input, *proto.graph.output)}
    if names != {INPUT, PROBABILITIES, LOGITS}:
        raise ExportError(f"the graph's inputs and outputs are called {sorted(names)}")


def check_parity(bundle: Bundle, model: keras.Model, images: Pixels) -> float:
    """Compare a bundle with Keras on real images, in batches of 1, 7 and 64.

    Args:
        bundle: the bundle, or its draft.
        model: the network in the form that was trained, in float32.
        images: uint8 (N, H, W, 3); the first 64 are used.

    Returns:
        The largest difference in probability.

    Raises:
        ExportError: the difference is not below `PARITY`.
    """
    session = open_session(bundle)
    worst = 0.0
    for size in PARITY_BATCHES:
        batch = images[np.arange(size) % len(images)]
        (probabilities,) = session.run([PROBABILITIES], {INPUT: batch})
        expected = softmax(predict(model, batch), bundle.card.temperature)
        worst = max(worst, float(np.abs(probabilities - expected).max()))
    if not worst < PARITY:
        raise ExportError(f"onnxruntime and Keras differ by {worst:.1e} in probability; at most {PARITY} is allowed")
    return worst
