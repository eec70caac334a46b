"""Augmentation of whole batches. Every transform is a frozen dataclass; what is random in it is drawn first.

A transform draws its parameters from a `Draw`, which is seeded by run, epoch and step: a resumed run has the same
images as an uninterrupted one. They are applied here, by NumPy, or in the memory of a GPU, by `augment_on_device`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from training.data.jpeg import compress

Batch = npt.NDArray[Any]
"""(N, H, W, 3), uint8 or float32, values 0 to 255."""
Parameters = tuple[npt.NDArray[Any], ...]
"""What a transform has drawn for a batch; the first dimension of each array is the image's place."""


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


class Transform(ABC):
    """(N, H, W, 3) in, (N, H, W, 3) out."""

    @abstractmethod
    def draw(self, draw: Draw, size: tuple[int, int]) -> Parameters:
        """Draw the parameters for images of that height and width, one for each of the draw's coins."""

    @abstractmethod
    def apply(self, images: Batch, parameters: Parameters) -> Batch:
        """Return transformed images; the input is not changed."""

    def __call__(self, images: Batch, draw: Draw) -> Batch:
        """Draw the parameters and apply them."""
        _, height, width, _ = images.shape
        return self.apply(images, self.draw(draw, (height, width)))


@dataclass(frozen=True)
class Flip(Transform):
    """Mirror left and right.

    Attributes:
        alternate: whether an image is mirrored is drawn once and then changes every epoch, so two successive epochs
            have both forms (Jordan 2024, arXiv:2404.00498, section 3.6); otherwise it is drawn for each step.
    """

    alternate: bool = False

    def draw(self, draw: Draw, size: tuple[int, int]) -> Parameters:
        """Return which of the images are mirrored, bool (N,)."""
        if self.alternate:
            return (draw.coins ^ bool(draw.epoch % 2),)
        return (draw.rng.random(len(draw.coins)) < 0.5,)

    def apply(self, images: Batch, parameters: Parameters) -> Batch:
        """Mirror about half of the images."""
        (flip,) = parameters
        return np.where(flip[:, None, None, None], images[:, :, ::-1], images)


@dataclass(frozen=True)
class Translate(Transform):
    """Shift by up to `pixels` whole pixels in each direction; the border is filled by reflection."""

    pixels: int = 2

    def draw(self, draw: Draw, size: tuple[int, int]) -> Parameters:
        """Return where each image begins in the padded one, from the top and from the left, int64 (N,)."""
        top, left = draw.rng.integers(0, 2 * self.pixels + 1, (2, len(draw.coins)))
        return top, left

    def apply(self, images: Batch, parameters: Parameters) -> Batch:
        """Shift each image on its own."""
        _, height, width, _ = images.shape
        padded = np.pad(images, ((0, 0), (self.pixels,) * 2, (self.pixels,) * 2, (0, 0)), mode="reflect")
        top, left = parameters
        out = np.empty_like(images)
        for y in range(2 * self.pixels + 1):  # one slice an offset is faster than gathering pixel by pixel
            for x in range(2 * self.pixels + 1):
                chosen = np.flatnonzero((top == y) & (left == x))
                out[chosen] = padded[chosen, y : y + height, x : x + width]
        return out


@dataclass(frozen=True)
class Cutout(Transform):
    """Replace a square at a random place of each image by mid-grey (DeVries and Taylor 2017, arXiv:1708.04552)."""

    side: int = 8

    def draw(self, draw: Draw, size: tuple[int, int]) -> Parameters:
        """Return the first row and the first column of each square, int64 (N,); they may lie outside."""
        y, x = (draw.rng.integers(0, side, len(draw.coins)) - self.side // 2 for side in size)
        return y, x

    def apply(self, images: Batch, parameters: Parameters) -> Batch:
        """Blank a square of each image."""
        _, height, width, _ = images.shape
        y, x = (place[:, None] for place in parameters)
        rows, columns = np.arange(height), np.arange(width)
        in_rows, in_columns = (rows >= y) & (rows < y + self.side), (columns >= x) & (columns < x + self.side)
        hole = in_rows[:, :, None] & in_columns[:, None, :]
        return np.where(hole[..., None], np.asarray(127, images.dtype), images)


@dataclass(frozen=True)
class Jpeg(Transform):
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

    def draw(self, draw: Draw, size: tuple[int, int]) -> Parameters:
        """Return each image's quality, int64 (N,); 0 for those that are not compressed."""
        chosen = draw.rng.random(len(draw.coins)) < self.probability
        qualities = np.zeros(len(chosen), np.int64)
        qualities[chosen] = draw.rng.integers(self.lowest, self.highest + 1, np.count_nonzero(chosen))
        return (qualities,)

    def apply(self, images: Batch, parameters: Parameters) -> Batch:
        """Compress some of the images."""
        (qualities,) = parameters
        chosen = np.flatnonzero(qualities)
        out = images.copy()
        out[chosen] = compress(images[chosen], qualities[chosen])
        return out


@dataclass(frozen=True)
class ResizedCrop(Transform):
    """A random part of each image, brought to the size of the whole (Szegedy et al. 2015, arXiv:1409.4842).

    Attributes:
        smallest: the part's area at least, as a fraction of the image's.
        stretch: the part's width by its height is this at most, and its inverse at least.
    """

    smallest: float = 0.35
    stretch: float = 4 / 3

    def draw(self, draw: Draw, size: tuple[int, int]) -> Parameters:
        """Return each part's left, top, right and bottom, in pixels, float32 (N, 4)."""
        n, (height, width) = len(draw.coins), size
        area = draw.rng.uniform(self.smallest, 1, n)
        ratio = np.exp(draw.rng.uniform(-math.log(self.stretch), math.log(self.stretch), n))
        wide, high = np.minimum(1, np.sqrt(area * ratio)) * width, np.minimum(1, np.sqrt(area / ratio)) * height
        left, top = draw.rng.random(n) * (width - wide), draw.rng.random(n) * (height - high)
        return (np.stack([left, top, left + wide, top + high], axis=1).astype(np.float32),)

    def apply(self, images: Batch, parameters: Parameters) -> Batch:
        """Cut a part of each image, and resize it; returns uint8."""
        (boxes,) = parameters
        _, height, width, _ = images.shape
        out = np.empty(images.shape, np.uint8)
        for i, (pixels, box) in enumerate(zip(_rounded(images), boxes.tolist(), strict=True)):
            image = Image.fromarray(pixels)
            out[i] = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=tuple(box)))
        return out


@dataclass(frozen=True)
class ColourJitter(Transform):
    """Change brightness, contrast and saturation of each image, each by a factor of its own.

    Attributes:
        amount: factors lie between 1 - `amount` and 1 + `amount`.
    """

    amount: float = 0.3

    def draw(self, draw: Draw, size: tuple[int, int]) -> Parameters:
        """Return the factors of brightness, contrast and saturation, float32 (N,)."""
        factors = draw.rng.uniform(1 - self.amount, 1 + self.amount, (3, len(draw.coins)))
        brightness, contrast, saturation = factors.astype(np.float32)
        return brightness, contrast, saturation

    def apply(self, images: Batch, parameters: Parameters) -> Batch:
        """Change each image's colours; returns uint8."""
        brightness, contrast, saturation = (factor[:, None, None, None] for factor in parameters)
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
class Affine(Transform):
    """Rotate within ±`degrees` and shift within ±`shift` of each side, bilinear; the border repeats outwards."""

    degrees: float = 45.0
    shift: float = 0.1

    def draw(self, draw: Draw, size: tuple[int, int]) -> Parameters:
        """Return the eight numbers of each image's projective transform, as Keras takes them, float32 (N, 8)."""
        n, (height, width) = len(draw.coins), size
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
        return (np.stack([value for row in rows for value in row], axis=1).astype(np.float32),)

    def apply(self, images: Batch, parameters: Parameters) -> Batch:
        """Turn and shift each image on its own; returns float32."""
        from keras import ops  # the backend's own kernel, many times faster than NumPy's

        moved = ops.image.affine_transform(
            images.astype(np.float32), parameters[0], fill_mode="nearest", data_format="channels_last"
        )
        return np.asarray(ops.convert_to_numpy(moved))
