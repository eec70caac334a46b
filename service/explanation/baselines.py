"""Images that say nothing: what a patch is covered with, and where a path of integrated gradients begins."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

from contract.preprocessing import Pixels

Baseline = Literal["blur", "grey", "black", "white", "mean"]


def baseline(image: Pixels, kind: Baseline) -> Pixels:
    """An image without its content.

    Args:
        image: uint8 (1, H, W, 3).
        kind: `blur` blurs it by an eighth of its side, `mean` has its mean colour everywhere, the others a colour.

    Returns:
        uint8 (1, H, W, 3).
    """
    if kind == "blur":
        radius = max(image.shape[1:3]) / 8
        blurred = Image.fromarray(image[0]).filter(ImageFilter.GaussianBlur(radius))
        return np.asarray(blurred, np.uint8)[None]
    if kind == "mean":
        colour = np.rint(image.mean((1, 2), keepdims=True)).astype(np.uint8)
        return np.broadcast_to(colour, image.shape).copy()
    return np.full_like(image, {"grey": 127, "black": 0, "white": 255}[kind])
