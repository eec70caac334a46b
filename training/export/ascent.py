"""Images that channels respond to most, by gradient ascent on a Fourier spectrum (Olah et al. 2017, distill.00007).

The image is a sigmoid of colours that go together as those of the training images do, of a spectrum whose steps are
larger for low frequencies; before each step it is shifted, turned and scaled a little, so that what is made does not
hang on single pixels. On small networks it can give clouds without features beyond the first layers; so what was
reached is told beside what training images reach, and whether it lasts when the image is moved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from contract.network.gradient import Gradient
from contract.network.graph import Array, Floats, Graph
from contract.network.layers import Layer
from contract.preprocessing import Pixels

STEPS: Final = 128
BATCH: Final = 16
"""Channels whose images are made together."""
_RATE: Final = 0.05
_SPREAD: Final = 0.01
"""Of the spectrum that the ascent starts from."""
_SHIFT: Final = 1 / 16
_SCALE: Final = 0.1
_DEGREES: Final = 5.0
"""How far images are moved before each step: a share of the side, a share of the size, and an angle."""
_TRIALS: Final = 8
"""Moved copies by which it is told whether an image is stable."""
_STABLE: Final = 0.5


@dataclass(frozen=True)
class Made:
    """Images that were made for channels.

    Attributes:
        images: uint8 (channels, H, W, 3).
        reached: the highest value of each one's map, float32 (channels).
        stable: whether half of it remains, on average, when the image is moved, bool (channels).
    """

    images: Pixels
    reached: Floats
    stable: npt.NDArray[np.bool_]


def colour_root(images: Pixels) -> Floats:
    """How the colours of images go together: the Cholesky factor of their covariance, at most one long, (3, 3)."""
    colours = images.reshape(-1, 3).astype(np.float64) / 255
    root = np.linalg.cholesky(np.cov(colours.T) + 1e-6 * np.eye(3))
    return np.asarray(root / np.linalg.norm(root, axis=0).max(), np.float32)


class Ascent:
    """Makes images for the channels of a layer.

    Args:
        graph: the network.
        layer: the layer; its values are raised before their activation.
        colours: what `colour_root` gives.
        threads: onnxruntime's.
        seed: of what the images start from, and of how they are moved.
    """

    def __init__(self, graph: Graph, layer: Layer, colours: Floats, threads: int, seed: int = 0) -> None:
        self._graph, self._layer, self._colours = graph, layer, colours
        self._gradient = Gradient(graph, layer.tensor, [graph.input], threads=threads)
        self._rng = np.random.default_rng(seed)
        _, self._height, self._width, _ = graph.shapes[graph.input]
        frequencies = np.hypot(np.fft.fftfreq(self._height)[:, None], np.fft.rfftfreq(self._width)[None])
        floor = 1 / max(self._height, self._width)
        scale = math.sqrt(self._height * self._width) / np.maximum(frequencies, floor)
        self._scale = scale.astype(np.float32)
        self._twice = np.full(scale.shape[1], 2.0, np.float32)  # a real image's other half has the same
        self._twice[0] = 1
        if self._width % 2 == 0:
            self._twice[-1] = 1

    def make(self, channels: list[int], steps: int = STEPS) -> Made:
        """Make an image for each of some channels."""
        shape = (2, len(channels), 3, *self._scale.shape)
        spectrum = self._rng.normal(0, _SPREAD, shape).astype(np.float32)
        seed = self._seed(channels)
        first, second = np.zeros_like(spectrum), np.zeros_like(spectrum)
        for step in range(1, steps + 1):
            image, backward = self._image(spectrum)
            move = Move.random(self._rng, self._height, self._width)
            _, _, (slopes,) = self._gradient(move(image), seed)
            gradient = backward(move.adjoint(slopes))
            first = 0.9 * first + 0.1 * gradient  # Adam (Kingma and Ba 2014, arXiv:1412.6980)
            second = 0.999 * second + 0.001 * gradient**2
            corrected = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
            spectrum = spectrum + _RATE * corrected
        images = np.asarray(np.rint(self._image(spectrum)[0]), np.uint8)
        reached = self._reached(images.astype(np.float32), channels)
        moved = [
            self._reached(Move.random(self._rng, self._height, self._width)(images.astype(np.float32)), channels)
            for _ in range(_TRIALS)
        ]
        stable = np.mean(moved, axis=0) >= _STABLE * reached
        return Made(images, reached, stable & (reached > 0))

    def _seed(self, channels: list[int]) -> Floats:
        """The mean of each image's own channel."""
        shape = self._graph.shapes[self._layer.tensor][1:]
        seed = np.zeros((len(channels), *shape), np.float32)
        roles = self._graph.roles[self._layer.tensor][1:]
        for place, channel in enumerate(channels):
            index = tuple(channel if role == "C" else slice(None) for role in roles)
            seed[(place, *index)] = shape[roles.index("C")] / math.prod(shape)
        return seed

    def _image(self, spectrum: Floats) -> tuple[Floats, Any]:
        """Images (N, H, W, 3) of values 0 to 255, and how a gradient by them becomes one by the spectrum."""
        size = self._height, self._width
        planes = np.fft.irfft2((spectrum[0] + 1j * spectrum[1]) * self._scale, size).astype(np.float32) / 4
        colours = np.einsum("ck,nkyx->nyxc", self._colours, planes)
        shares = 1 / (1 + np.exp(-colours))

        def backward(gradient: Floats) -> Floats:
            inner = gradient * 255 * shares * (1 - shares)
            by_plane = np.einsum("ck,nyxc->nkyx", self._colours, inner) / 4
            by_spectrum = np.fft.rfft2(by_plane) / (size[0] * size[1]) * self._twice * self._scale
            return np.stack([by_spectrum.real, by_spectrum.imag]).astype(np.float32)

        return np.asarray(shares * 255, np.float32), backward

    def _reached(self, images: Floats, channels: list[int]) -> Floats:
        values, _, _ = self._gradient(images, np.zeros(self._graph.shapes[self._layer.tensor][1:], np.float32))
        maps = self._graph.as_images(self._layer.tensor, values)
        return np.array([maps[place, :, :, channel].max() for place, channel in enumerate(channels)], np.float32)


@dataclass(frozen=True)
class Move:
    """A shift, a turn and a change of size, by linear interpolation; grey comes in from outside.

    Attributes:
        index, weights: of the four pixels that each new one is from, (4, H * W).
    """

    index: npt.NDArray[np.int64]
    weights: Floats

    @classmethod
    def random(cls, rng: np.random.Generator, height: int, width: int) -> Move:
        """Any move that is small enough."""
        angle = math.radians(rng.uniform(-_DEGREES, _DEGREES))
        scale = 1 + rng.uniform(-_SCALE, _SCALE)
        shift = rng.uniform(-_SHIFT, _SHIFT, 2) * (height, width)
        y, x = np.mgrid[:height, :width].reshape(2, -1).astype(np.float64)
        y, x = y - (height - 1) / 2, x - (width - 1) / 2
        sine, cosine = math.sin(angle) / scale, math.cos(angle) / scale
        rows = cosine * y - sine * x + (height - 1) / 2 + shift[0]
        columns = sine * y + cosine * x + (width - 1) / 2 + shift[1]
        top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
        index, weights = [], []
        for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
            weight = (1 - np.abs(rows - row)) * (1 - np.abs(columns - column))
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index.append(np.where(inside, row * width + column, 0))
            weights.append(np.where(inside, weight, 0))
        return cls(np.stack(index), np.stack(weights).astype(np.float32))

    def __call__(self, images: Floats) -> Floats:
        """Images (N, H, W, 3), moved."""
        flat = images.reshape(len(images), -1, 3) - 127.5
        moved = sum(flat[:, index] * weight[:, None] for index, weight in zip(self.index, self.weights, strict=True))
        return np.asarray(moved + 127.5, np.float32).reshape(images.shape)

    def adjoint(self, gradient: Array) -> Floats:
        """The gradient by the images of a gradient by what they were moved to."""
        count, pixels = len(gradient), self.index.shape[1]
        flat = gradient.reshape(count, pixels, 3).transpose(0, 2, 1).reshape(count * 3, pixels)
        offsets = np.arange(count * 3)[:, None] * pixels
        total = np.zeros(count * 3 * pixels)
        for index, weight in zip(self.index, self.weights, strict=True):
            total += np.bincount((offsets + index).ravel(), (flat * weight).ravel(), len(total))
        back = total.reshape(count, 3, pixels).transpose(0, 2, 1)
        return np.asarray(back, np.float32).reshape(gradient.shape)
