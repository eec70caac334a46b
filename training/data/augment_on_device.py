"""The transforms of `augment` as operations of Keras' backend, for images that are in the memory of a GPU.

They take the parameters that the transforms have drawn, and give the same images to within one level of 255.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import keras
from keras import ops

from training.data import augment
from training.data.augment import Transform

_LUMA: Final = (0.299, 0.587, 0.114)


def can(transform: Transform) -> bool:
    """Whether a transform can be applied on the device; JPEG compression cannot."""
    return type(transform) in _APPLY


def apply(transform: Transform, images: Any, parameters: tuple[Any, ...]) -> Any:
    """Return transformed images.

    Args:
        transform: one that `can` be applied.
        images: a tensor, uint8 or float32 (N, H, W, 3), values 0 to 255.
        parameters: what the transform has drawn, as tensors.
    """
    return _APPLY[type(transform)](transform, images, *parameters)


def _flip(transform: augment.Flip, images: Any, flip: Any) -> Any:
    return ops.where(flip[:, None, None, None], images[:, :, ::-1], images)


def _translate(transform: augment.Translate, images: Any, top: Any, left: Any) -> Any:
    _, height, width, _ = images.shape
    rows = _reflected(ops.cast(top, "int32")[:, None] + ops.arange(height) - transform.pixels, height)
    columns = _reflected(ops.cast(left, "int32")[:, None] + ops.arange(width) - transform.pixels, width)
    return _taken(_taken(images, rows, 1), columns, 2)


def _reflected(places: Any, side: int) -> Any:
    """Places in an image of that side for places outside it, as NumPy's mode `reflect` has them."""
    period = max(1, 2 * (side - 1))
    places = ops.mod(places, period)
    return ops.minimum(places, period - places) if side > 1 else places * 0


def _taken(images: Any, places: Any, axis: int) -> Any:
    """Take, of each image, the rows (axis 1) or columns (axis 2) at `places`, (N, side)."""
    index = places[:, :, None, None] if axis == 1 else places[:, None, :, None]
    return ops.take_along_axis(images, index, axis=axis)


def _cutout(transform: augment.Cutout, images: Any, y: Any, x: Any) -> Any:
    _, height, width, _ = images.shape
    down, right = ops.arange(height) - ops.cast(y, "int32")[:, None], ops.arange(width) - ops.cast(x, "int32")[:, None]
    in_rows, in_columns = (ops.logical_and(places >= 0, places < transform.side) for places in (down, right))
    hole = ops.logical_and(in_rows[:, :, None], in_columns[:, None, :])
    return ops.where(hole[..., None], ops.cast(127, images.dtype), images)


def _resized_crop(transform: augment.ResizedCrop, images: Any, boxes: Any) -> Any:
    """As Pillow does: first the columns, then the rows, each rounded."""
    left, top, right, bottom = (boxes[:, side] for side in range(4))
    columns = _interpolated(ops.cast(_rounded(images), "float32"), left, right, 2)
    return ops.cast(_interpolated(columns, top, bottom, 1), "uint8")


def _interpolated(images: Any, begin: Any, end: Any, axis: int) -> Any:
    """Stretch, of each image, the part from `begin` to `end` to the whole side. No part is larger than that."""
    side = images.shape[axis]
    step = (end - begin) / side
    centres = begin[:, None] + (ops.cast(ops.arange(side), "float32") + 0.5) * step[:, None] - 0.5
    below = ops.floor(centres)
    share = (centres - below)[:, :, None, None] if axis == 1 else (centres - below)[:, None, :, None]
    first, second = (ops.cast(ops.clip(place, 0, side - 1), "int32") for place in (below, below + 1))
    mixed = _taken(images, first, axis) * (1 - share) + _taken(images, second, axis) * share
    return ops.floor(mixed + 0.5)


def _colour_jitter(
    transform: augment.ColourJitter, images: Any, brightness: Any, contrast: Any, saturation: Any
) -> Any:
    brightness, contrast, saturation = (factor[:, None, None, None] for factor in (brightness, contrast, saturation))
    x = ops.cast(images, "float32") * brightness
    x = ops.mean(_grey(x), axis=(1, 2), keepdims=True) * (1 - contrast) + x * contrast
    return _rounded(_grey(x) * (1 - saturation) + x * saturation)


def _grey(images: Any) -> Any:
    """Luma, (N, H, W, 1); a sum, because GPUs round the factors of a product of matrices."""
    return sum(images[..., channel : channel + 1] * weight for channel, weight in enumerate(_LUMA))


def _rounded(images: Any) -> Any:
    if keras.backend.standardize_dtype(images.dtype) == "uint8":
        return images
    return ops.cast(ops.clip(ops.round(images), 0, 255), "uint8")


def _affine(transform: augment.Affine, images: Any, transforms: Any) -> Any:
    return ops.image.affine_transform(
        ops.cast(images, "float32"), transforms, fill_mode="nearest", data_format="channels_last"
    )


_APPLY: Final[dict[type[Transform], Callable[..., Any]]] = {
    augment.Flip: _flip,
    augment.Translate: _translate,
    augment.Cutout: _cutout,
    augment.ResizedCrop: _resized_crop,
    augment.ColourJitter: _colour_jitter,
    augment.Affine: _affine,
}
