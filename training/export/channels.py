"""Which training images the channels of a network respond to most and least, found in two passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from onnx import helper

from contract.network import sessions
from contract.network.form import Form
from contract.network.graph import Array, Floats
from contract.network.layers import Layer
from contract.network.prepared import Examples
from contract.preprocessing import Pixels
from training.data.decode import Progress

STRONGEST: Final = 9
WEAKEST: Final = 4
_BATCH: Final = 64
_LARGEST: Final = "largest"
_SMALLEST: Final = "smallest"


@dataclass(frozen=True)
class _Extremes:
    """The largest and smallest value of each channel on each image: float32 (N, channels)."""

    largest: Floats
    smallest: Floats


def shown(form: Form) -> list[Layer]:
    """The layers whose channels are shown: convolutions that have a map of positions, before their activation."""
    return [
        layer for layer in form.layers if layer.kind == "convolution" and layer.output and max(layer.output[:2]) > 1
    ]


def examples(
    form: Form, layers: Sequence[Layer], images: Pixels, threads: int, progress: Progress = lambda done, total: None
) -> dict[str, tuple[Examples, Examples]]:
    """The images that each channel responds to most, and those that it responds to least.

    Args:
        form: the network.
        layers: some of `shown`.
        images: uint8 (N, H, W, 3).
        threads: onnxruntime's.
        progress: called with the number of images that are done, and of all.

    Returns:
        By layer, the strongest and the weakest, as many as there are up to `STRONGEST` and `WEAKEST`. No image
        appears twice for a channel.
    """
    extremes = _extremes(form, layers, images, threads, progress)
    result = {}
    for layer in layers:
        largest, smallest = extremes[layer.id].largest, extremes[layer.id].smallest
        most = (-largest).argsort(0, kind="stable")[:STRONGEST].T
        least = smallest.argsort(0, kind="stable")[:WEAKEST].T
        places = _places(form, layer, images, np.unique(np.concatenate([most, least], axis=1)))
        result[layer.id] = (
            _examples(most, largest, {number: place[_LARGEST] for number, place in places.items()}),
            _examples(least, smallest, {number: place[_SMALLEST] for number, place in places.items()}),
        )
    return result


def _examples(chosen: Array, values: Floats, places: dict[int, Array]) -> Examples:
    """Args: chosen images (channels, k); values (N, channels); by image, rows and columns (channels, 2)."""
    channels = np.arange(len(chosen))[:, None]
    where = np.array([[places[int(number)][channel] for number in row] for channel, row in enumerate(chosen)])
    return Examples(chosen.astype(np.int64), values[chosen, channels].astype(np.float32), where.astype(np.int64))


def _extremes(
    form: Form, layers: Sequence[Layer], images: Pixels, threads: int, progress: Progress
) -> dict[str, _Extremes]:
    """The extremes of each channel, computed in the graph, so that no map leaves it."""
    part = form.graph.between(form.graph.input, [layer.tensor for layer in layers])
    proto = part.to_proto()
    del proto.graph.output[:]
    outputs = []
    for layer in layers:
        for name, sign in ((_LARGEST, 1), (_SMALLEST, -1)):
            tensor = layer.tensor
            if sign < 0:
                proto.graph.node.append(helper.make_node("Neg", [tensor], [f"{layer.id}/negative"]))
                tensor = f"{layer.id}/negative"
            output = f"{layer.id}/{name}"
            proto.graph.node.append(helper.make_node("GlobalMaxPool", [tensor], [output]))
            proto.graph.output.append(helper.make_tensor_value_info(output, 1, None))
            outputs.append(output)
    session = sessions.session(proto, threads=threads)
    rows: list[list[Array]] = []
    for start in range(0, len(images), _BATCH):
        batch = np.asarray(images[start : start + _BATCH], np.float32)
        rows.append(session.run(outputs, {form.graph.input: batch}))
        progress(min(start + _BATCH, len(images)), len(images))
    values = [np.concatenate(parts).reshape(len(images), -1) for parts in zip(*rows, strict=True)]
    named = dict(zip(outputs, values, strict=True))
    return {layer.id: _Extremes(named[f"{layer.id}/{_LARGEST}"], -named[f"{layer.id}/{_SMALLEST}"]) for layer in layers}


def _places(form: Form, layer: Layer, images: Pixels, numbers: npt.NDArray[np.int64]) -> dict[int, dict[str, Array]]:
    """By image, the row and column of the largest and of the smallest value of each channel, int64 (channels, 2)."""
    by_layer: dict[int, dict[str, Array]] = {}
    for start in range(0, len(numbers), _BATCH):
        part = numbers[start : start + _BATCH]
        maps = form.maps(layer, images[part])
        flat = maps.reshape(len(part), -1, maps.shape[3])
        for kind, index in ((_LARGEST, flat.argmax(1)), (_SMALLEST, flat.argmin(1))):
            for number, places in zip(part.tolist(), index, strict=True):
                by_layer.setdefault(number, {})[kind] = np.stack(np.divmod(places, maps.shape[2]), axis=1)
    return by_layer
