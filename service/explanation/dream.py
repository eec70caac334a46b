"""DeepDream: an image changed so that a layer responds more, coarse structure first (Mordvintsev et al. 2015).

As in https://keras.io/examples/generative/deep_dream/: several octaves, from a small copy of the image to its own size;
in each, steps along the gradient of the mean square of the layer's values, at a mean slope of one; and what the small
copy had lost of the image is added before the next octave.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from contract.network import reading
from contract.network.errors import CannotExplain
from contract.network.form import Form
from contract.network.gradient import Gradient
from contract.network.graph import Floats
from contract.network.layers import Layer
from contract.preprocessing import Pixels

_OCTAVE: Final = 1.4
"""How many times as large each octave is as the one before it."""
_RATE: Final = 0.01 * 127.5
"""Of the image's values, 0 to 255, at a mean slope of one."""
_SMALLEST: Final = 8
"""Pixels on a side that an octave has at least."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Dream:
    """What is exaggerated, and how far.

    Attributes:
        layer: whose values are raised.
        channel: one of its channels; all where None.
        octaves: sizes that are gone through.
        steps: at each size.
        rate: how long a step is, 1 for the usual length.
    """

    layer: Layer
    channel: int | None = None
    octaves: int = 3
    steps: int = 20
    rate: float = 1.0


def dream(
    form: Form, image: Pixels, wish: Dream, threads: int, progress: Progress = lambda done, total: None
) -> Pixels:
    """Exaggerate what a layer sees in an image.

    Args:
        form: the network; it is run at the image's own size, whatever it was trained at.
        image: uint8 (H, W, 3).
        wish: what is exaggerated.
        threads: onnxruntime's.
        progress: called with steps that are done, and of all.

    Returns:
        uint8, as large as the image.

    Raises:
        CannotExplain: the layer does not run at other sizes, or has no gradient.
        UnknownChannel: the layer has no such channel.
    """
    if wish.channel is not None:
        wish.layer.check_channel(wish.channel)
    height, width, _ = image.shape
    sizes = [(round(height / _OCTAVE**k), round(width / _OCTAVE**k)) for k in reversed(range(wish.octaves))]
    sizes = [size for size in sizes if min(size) >= _SMALLEST] or [(height, width)]
    original = image.astype(np.float32)
    smaller = _resized(original, sizes[0])
    pixels = smaller
    for octave, size in enumerate(sizes):
        at_this_size = _resized(original, size)
        pixels = _resized(pixels, size) + (at_this_size - _resized(smaller, size))
        smaller = at_this_size
        climb = _climber(form, wish, size, threads)
        for step in range(wish.steps):
            pixels = np.clip(pixels + _RATE * wish.rate * climb(pixels), 0, 255)
            progress(octave * wish.steps + step + 1, len(sizes) * wish.steps)
    return np.asarray(np.rint(pixels), np.uint8)


def _climber(form: Form, wish: Dream, size: tuple[int, int], threads: int) -> Callable[[Floats], Floats]:
    """For an image (H, W, 3), the slope by it, (H, W, 3), with a mean magnitude of one."""
    graph, tensor = form.graph, wish.layer.tensor
    part = reading.resized(graph.between(graph.input, [tensor]), *size)
    gradient = Gradient(part, tensor, [part.input], threads=threads)
    roles = graph.roles.get(tensor)
    if roles is None or "H" not in roles:
        raise CannotExplain(f"{wish.layer.id} has no map of positions: choose a convolution or its activation")
    index = tuple(wish.channel if role == "C" and wish.channel is not None else slice(None) for role in roles)

    def climb(image: Floats) -> Floats:
        values, _, _ = gradient(image[None], np.zeros(part.shapes[tensor][1:], np.float32))
        seed = np.zeros_like(values)
        seed[index] = 2 * values[index] / values[index].size
        _, _, (slopes,) = gradient(image[None], seed)
        return np.asarray(slopes[0] / max(float(np.abs(slopes).mean()), 1e-6), np.float32)

    return climb


def _resized(image: Floats, size: tuple[int, int]) -> Floats:
    """An image (H, W, 3) of floats at another height and width."""
    if image.shape[:2] == size:
        return image
    planes = [Image.fromarray(plane).resize(size[::-1], Image.Resampling.BICUBIC) for plane in image.transpose(2, 0, 1)]
    return np.stack([np.asarray(plane, np.float32) for plane in planes], axis=2)
