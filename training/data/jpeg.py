"""JPEG compression of images in memory, there and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg


def compress(images: npt.NDArray[Any], qualities: Iterable[int]) -> npt.NDArray[Any]:
    """Encode each image as JPEG with 4:2:0 chroma subsampling and decode it again.

    Args:
        images: (N, H, W, 3) RGB, values 0 to 255, uint8 or floating point, which is rounded.
        qualities: one for each image, 1 to 100, on libjpeg's scale.

    Returns:
        The decoded images, in the shape and dtype of `images`.

    Example:
        >>> compress(np.full((2, 16, 16, 3), 128, np.uint8), [30, 95]).shape
        (2, 16, 16, 3)
    """
    pixels = images if images.dtype == np.uint8 else np.clip(np.rint(images), 0, 255).astype(np.uint8)
    decoded = np.empty_like(pixels)
    for place, quality in enumerate(qualities):
        encoded = simplejpeg.encode_jpeg(
            np.ascontiguousarray(pixels[place]), quality=int(quality), colorspace="RGB", colorsubsampling="420"
        )
        decoded[place] = simplejpeg.decode_jpeg(encoded, "RGB")
    return decoded.astype(images.dtype, copy=False)
