"""Augmentation of whole batches. Every transform is a frozen dataclass that is called with images and a `Draw`.

All randomness comes from the draw, which is seeded by run, epoch and step: a resumed run has the same images as an
uninterrupted one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from training.data.jpeg import compress

Batch = npt.NDArray[Any]
"""(N, H, W, 3), uint8 or float32, values 0 to 255."""


@dataclass(frozen=True)
class Draw:
    """The randomness of one batch.

    Attributes:
        epoch: from 0.
        rng: seeded by run, epoch and step.
        coins: bool (N,), one for each image, the same in every epoch of a run.
    """

    epoch: int
    rng: np.random.Generator
    coins: npt.NDArray[np.bool_]


class Transform(Protocol):
    """(N, H, W, 3) in, (N, H, W, 3) out."""

    def __call__(self, images: Batch, draw: Draw) -> Batch:
        """Return transformed images; the input is not changed."""


@dataclass(frozen=True)
class Flip:
    """Mirror left and right.

    Attributes:
        alternate: whether an image is mirrored is drawn once and then changes every epoch, so two successive epochs
            have both forms (Jordan 2024, arXiv:2404.00498, section 3.6); otherwise it is drawn for each step.
    """

    alternate: bool = False

    def __call__(self, images: Batch, draw: Draw) -> Batch:
        """Mirror about half of the images."""
        flip = draw.coins ^ bool(draw.epoch % 2) if self.alternate else draw.rng.random(len(images)) < 0.5
        return np.where(flip[:, None, None, None], images[:, :, ::-1], images)


@dataclass(frozen=True)
class Translate:
    """Shift by up to `pixels` whole pixels in each direction; the border is filled by reflection."""

    pixels: int = 2

    def __call__(self, images: Batch, draw: Draw) -> Batch:
        """Shift each image on its own."""
        n, height, width, _ = images.shape
        padded = np.pad(images, ((0, 0), (self.pixels,) * 2, (self.pixels,) * 2, (0, 0)), mode="reflect")
        top, left = draw.rng.integers(0, 2 * self.pixels + 1, (2, n))
        out = np.empty_like(images)
        for y in range(2 * self.pixels + 1):  # one slice an offset is faster than gathering pixel by pixel
            for x in range(2 * self.pixels + 1):
                chosen = np.flatnonzero((top == y) & (left == x))
                out[chosen] = padded[chosen, y : y + height, x : x + width]
        return out


@dataclass(frozen=True)
class Cutout:
    """Replace a square at a random place of each image by mid-grey (DeVries and Taylor 2017, arXiv:1708.04552)."""

    side: int = 8

    def __call__(self, images: Batch, draw: Draw) -> Batch:
        """Blank a square of each image."""
        n, height, width, _ = images.shape
        y, x = (draw.rng.integers(0, side, (n, 1)) - self.side // 2 for side in (height, width))
        rows, columns = np.arange(height), np.arange(width)
        in_rows, in_columns = (rows >= y) & (rows < y + self.side), (columns >= x) & (columns < x + self.side)
        hole = in_rows[:, :, None] & in_columns[:, None, :]
        return np.where(hole[..., None], np.asarray(127, images.dtype), images)


@dataclass(frozen=True)
class Jpeg:
    """JPEG compression augmentation: some images are encoded and decoded again, with 4:2:0 chroma subsampling.

    People send compressed images; a network that has seen none of them loses accuracy on all (Dodge and Karam 2016,
    arXiv:1604.04004). It comes last in a recipe, since it is what happens last to an image that is sent.

    Attributes:
        probability: of each image to be compressed.
        lowest, highest: the quality's range on libjpeg's scale, both ends included; uniform.
    """

    probability: float = 0.5
    lowest: int = 30
    highest: int = 95

    def __call__(self, images: Batch, draw: Draw) -> Batch:
        """Compress some of the images."""
        chosen = np.flatnonzero(draw.rng.random(len(images)) < self.probability)
        qualities = draw.rng.integers(self.lowest, self.highest + 1, len(chosen))
        out = images.copy()
        out[chosen] = compress(images[chosen], qualities)
        return out


@dataclass(frozen=True)
class ResizedCrop:
    """A random part of each image, brought to the size of the whole (Szegedy et al. 2015, arXiv:1409.4842).

    Attributes:
        smallest: the part's area at least, as a fraction of the image's.
        stretch: the part's width by its height is this at most, and its inverse at least.
    """

    smallest: float = 0.35
    stretch: float = 4 / 3

    def __call__(self, images: Batch, draw: Draw) -> Batch:
        """Cut a part of each image, and resize it; returns uint8."""
        n, height, width, _ = images.shape
        area = draw.rng.uniform(self.smallest, 1, n)
        ratio = np.exp(draw.rng.uniform(-math.log(self.stretch), math.log(self.stretch), n))
        wide, high = np.minimum(1, np.sqrt(area * ratio)) * width, np.minimum(1, np.sqrt(area / ratio)) * height
        left, top = draw.rng.random(n) * (width - wide), draw.rng.random(n) * (height - high)
        boxes = np.stack([left, top, left + wide, top + high], axis=1)
        out = np.empty(images.shape, np.uint8)
        for i, (pixels, box) in enumerate(zip(_rounded(images), boxes.tolist(), strict=True)):
            image = Image.fromarray(pixels)
            out[i] = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=tuple(box)))
        return out


@dataclass(frozen=True)
class ColourJitter:
    """Change brightness, contrast and saturation of each image, each by a factor of its own.

    Attributes:
        amount: factors lie between 1 - `amount` and 1 + `amount`.
    """

    amount: float = 0.3

    def __call__(self, images: Batch, draw: Draw) -> Batch:
        """Change each image's colours; returns uint8."""
        brightness, contrast, saturation = draw.rng.uniform(
            1 - self.amount, 1 + self.amount, (3, len(images), 1, 1, 1)
        ).astype(np.float32)
        x = images.astype(np.float32) * brightness
        x = _grey(x).mean((1, 2), keepdims=True) * (1 - contrast) + x * contrast
        return _rounded(_grey(x) * (1 - saturation) + x * saturation)


def _grey(images: Batch) -> Batch:
    """Luma, (N, H, W, 1), by ITU-R BT.601."""
    weights: Batch = np.array([0.299, 0.587, 0.114], np.float32)
    return (images @ weights)[..., None]


def _rounded(images: Batch) -> Batch:
    return images if images.dtype == np.uint8 else np.clip(np.rint(images), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Affine:
    """Rotate within ±`degrees` and shift within ±`shift` of each side, bilinear; the border repeats outwards."""

    degrees: float = 45.0
    shift: float = 0.1

    def __call__(self, images: Batch, draw: Draw) -> Batch:
        """Turn and shift each image on its own; returns float32."""
        from keras import ops  # the backend's own kernel, many times faster than NumPy's

        n, height, width, _ = images.shape
        angle = draw.rng.uniform(-self.degrees, self.degrees, n) * math.pi / 180
        right = draw.rng.uniform(-self.shift, self.shift, n) * width
        down = draw.rng.uniform(-self.shift, self.shift, n) * height
        cos, sin = np.cos(angle), np.sin(angle)
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
        from_x, from_y = middle_x + right, middle_y + down
        zero = np.zeros(n)
        # output (x, y) is taken from input (a0 x + a1 y + a2, a3 x + a4 y + a5): shifted back, then turned
        rows = (
            (cos, -sin, middle_x - cos * from_x + sin * from_y),
            (sin, cos, middle_y - sin * from_x - cos * from_y),
            (zero, zero),
        )
        transform = np.stack([value for row in rows for value in row], axis=1)
        moved = ops.image.affine_transform(
            images.astype(np.float32), transform.astype(np.float32), fill_mode="nearest", data_format="channels_last"
        )
        return np.asarray(ops.convert_to_numpy(moved))
