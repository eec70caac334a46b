"""One ONNX file of a model: its graph, its layers, and what is computed with it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime

from contract import bundle
from contract.network import half_precision, reading, sessions
from contract.network.errors import CannotExplain
from contract.network.gradient import Gradient
from contract.network.graph import Array, Floats, Graph
from contract.network.layers import Layer, Layers
from contract.preprocessing import Pixels

_BATCH_VALUES: Final = 2**22
"""Values of images that are run at once."""


class Form:
    """One ONNX file of a model.

    Args:
        path: the file.
        labels: the classes.

    Raises:
        CannotExplain: it cannot be read, or has no probabilities.
    """

    def __init__(self, path: Path, labels: tuple[str, ...]) -> None:
        self.labels = labels
        proto = half_precision.expand(onnx.load(path))
        self._bytes = proto.SerializeToString()
        operators = {node.op_type for node in proto.graph.node}
        self.dtype = "int8" if operators & reading.QUANTISATION else "float32"
        self.graph = reading.read(proto)
        self.served = reading.read(proto, rounding=True) if self.dtype == "int8" else self.graph
        self.layers = Layers.of(self.graph)
        self.score = _score(self.graph)

    @cached_property
    def _plain(self) -> onnxruntime.InferenceSession:
        return sessions.session(self._bytes)

    @cached_property
    def _tapped(self) -> onnxruntime.InferenceSession:
        names = [name for node in self.served.nodes for name in node.outputs if name]
        return sessions.session(self.served.to_proto(names), literal=self.dtype == "int8")

    def answers(self, images: Pixels) -> tuple[Floats, Floats]:
        """Logits and probabilities of images, uint8 (N, H, W, 3), as they are served; each float32 (N, classes)."""
        wanted = [name for name in (bundle.LOGITS, bundle.PROBABILITIES) if name in self.graph.outputs]
        if self.score not in wanted:  # a bundle without logits: what its softmax reads has them
            return tuple(self.tensors(images.astype(np.float32), [self.score, bundle.PROBABILITIES]))  # type: ignore[return-value]
        parts = [self._plain.run(wanted, {self.graph.input: part}) for part in in_batches(images)]
        outputs = [np.concatenate(values) for values in zip(*parts, strict=True)]
        return outputs[0], outputs[-1]

    def tensors(self, images: Array, names: list[str]) -> list[Array]:
        """Tensors that the served form computes from images, (N, H, W, 3) of values 0 to 255."""
        given = np.ascontiguousarray(images, np.float32)
        inner = [name for name in names if name != self.graph.input]
        values = dict(zip(inner, sessions.run(self._tapped, inner, {self.graph.input: given}), strict=True))
        return [values.get(name, given) for name in names]

    @cached_property
    def gradient(self) -> Gradient:
        """The gradient of the logits by the image and by the output of every layer before them."""
        part = self.graph.between(self.graph.input, [self.score])
        inside = {name for node in part.nodes for name in node.outputs}
        by = [layer.tensor for layer in self.layers if layer.tensor in inside and layer.tensor != self.score]
        return Gradient(self.graph, self.score, [self.graph.input, *by])

    def maps(self, layer: Layer, images: Array) -> Floats:
        """The output of a layer, float32 (N, rows, columns, channels). Raises `CannotExplain`."""
        (values,) = self.tensors(images, [layer.tensor])
        return np.asarray(self.graph.as_images(layer.tensor, values), np.float32)


def in_batches(images: Array) -> list[Array]:
    """Images in parts that are small enough to be run at once."""
    size = max(1, _BATCH_VALUES // (int(np.prod(images.shape[1:])) * 16))
    return [images[start : start + size] for start in range(0, len(images), size)]


def _score(graph: Graph) -> str:
    """The tensor of the logits; of a model that does not give them, what its softmax reads."""
    if bundle.LOGITS in graph.outputs:
        return bundle.LOGITS
    node = graph.producers.get(graph.source(bundle.PROBABILITIES))
    if node is None or node.operator != "Softmax":
        raise CannotExplain("the model gives no logits, and no softmax that would have them")
    return node.inputs[0]
