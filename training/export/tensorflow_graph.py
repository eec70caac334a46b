"""A Keras network as a graph of TensorFlow's, which tf2onnx converts. It is a program, too.

python -m training.export.tensorflow_graph NETWORK.keras TEMPERATURE MODEL.onnx
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import keras
import onnx

from contract.bundle import INPUT, LOGITS, PROBABILITIES

OPSET: Final = 17
"""tf2onnx can write 18 too, but then it leaves a transposition behind each max-pooling."""


def convert(model: keras.Model) -> onnx.ModelProto:
    """Convert a network, where Keras runs on TensorFlow.

    Args:
        model: (N, height, width, 3) -> logits (N, classes).

    Returns:
        uint8 images in, probabilities and logits out.
    """
    import tensorflow as tf
    import tf2onnx

    _, height, width, channels = model.input_shape
    signature = [tf.TensorSpec((None, height, width, channels), tf.uint8, name=INPUT)]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]  # tensorflow is untyped
    def graph(images: Any) -> dict[str, Any]:
        raw = model(tf.cast(images, tf.float32), training=False)
        return {PROBABILITIES: tf.nn.softmax(raw), LOGITS: raw}

    proto: onnx.ModelProto
    proto, _ = tf2onnx.convert.from_function(graph, input_signature=signature, opset=OPSET)
    return proto


def main(network: str, converted: str) -> None:
    """Convert a network that Keras saved, on whatever backend."""
    from training import backbones  # noqa: F401  # what Keras has to know to load it
    from training.networks import architectures  # noqa: F401

    proto = convert(keras.saving.load_model(network, compile=False))
    Path(converted).write_bytes(proto.SerializeToString())


if __name__ == "__main__":
    main(*sys.argv[1:])
