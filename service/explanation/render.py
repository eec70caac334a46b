"""Signed values -> PNG: zero always has the same colour, and the largest magnitude the full one."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from contract.network.graph import Floats
from contract.preprocessing import Pixels
from service.explanation.heat_map import HeatMap

View = Literal["overlay", "alone"]
Palette = Literal["activations", "weights"]

ZERO: Final = (247, 247, 247)
_ENDS: Final[dict[Palette, tuple[tuple[int, int, int], tuple[int, int, int]]]] = {
    "activations": ((33, 102, 172), (178, 24, 43)),
    "weights": ((84, 39, 136), (179, 88, 6)),
}
"""Blue and red, purple and orange: ColorBrewer's RdBu and PuOr, which people who confuse red and green tell apart.

The first of each is for values below zero.
"""
_GREY: Final = (0.299, 0.587, 0.114)
"""What red, green and blue count for how bright an image looks (ITU-R BT.601)."""
_OVERLAY: Final = 0.85
"""How much of a heat map's strongest colour covers the image."""
_SMALLEST: Final = 256
"""Pixels that the shorter side of a drawn map has at least."""
_MOST_TILES: Final = 65536
_TILE: Final = 48
_SMALL_TILE: Final = 9
"""Pixels that a tile's longer side has at least, on a sheet of maps and in a table of kernels."""
_GAP: Final = 1


@dataclass(frozen=True)
class Sheet:
    """Tiles side by side.

    Attributes:
        png: the image.
        scale: the magnitude that has the full colour; 0 where tiles are in their own colours.
        columns: tiles in a row.
        tile: pixels from one tile to the next, the gap included: height and width.
    """

    png: bytes
    scale: float
    columns: int
    tile: tuple[int, int]


def colours(values: Floats, scale: float, palette: Palette = "activations") -> Pixels:
    """Colours of values, uint8 (*shape, 3), from one end at -scale through `ZERO` to the other at scale."""
    share = np.clip(values / scale, -1, 1)[..., None] if scale > 0 else np.zeros((*values.shape, 1))
    low, high = (np.array(end, np.float64) for end in _ENDS[palette])
    zero = np.array(ZERO, np.float64)
    ends = np.where(share < 0, low, high)
    return np.asarray(np.rint(zero + (ends - zero) * np.abs(share)), np.uint8)


def heat(heat_map: HeatMap, image: Pixels, view: View) -> tuple[bytes, float]:
    """A heat map as PNG, over the image in grey or alone, enlarged without smoothing.

    Args:
        heat_map: the map.
        image: uint8 (H, W, 3), as the network sees it.
        view: `overlay` or `alone`.

    Returns:
        The PNG, and the magnitude of a pixel that has the full colour.
    """
    height, width, _ = image.shape
    values = heat_map.pixels(height, width)
    scale = float(np.abs(values).max(initial=0.0))
    shown = colours(values, scale)
    if view == "overlay":
        grey = np.repeat((image @ np.array(_GREY))[..., None], 3, 2)
        share = np.abs(values)[..., None] / scale * _OVERLAY if scale > 0 else np.zeros((height, width, 1))
        ends = colours(np.sign(values).astype(np.float32), 1.0)
        shown = np.asarray(np.rint(grey * (1 - share) + ends * share), np.uint8)
    return png(enlarged(shown, max(1, math.ceil(_SMALLEST / min(height, width))))), scale


def contact_sheet(maps: Floats, palette: Palette = "activations", *, scale: float | None = None) -> Sheet:
    """Maps, float32 (N, rows, columns), side by side as PNG; all on one scale."""
    whole = float(np.abs(maps).max(initial=0.0)) if scale is None else scale
    return _sheet(colours(maps, whole, palette), whole)


def colour_kernels(weights: Floats) -> Sheet:
    """Kernels (N, rows, columns, 3) as red, green and blue: zero is grey, and each has a scale of its own."""
    largest = np.abs(weights).max((1, 2, 3), keepdims=True)
    share = weights / np.where(largest > 0, largest, 1)
    return _sheet(np.asarray(np.rint((share + 1) / 2 * 255), np.uint8), 0.0)


def kernel_table(weights: Floats, *, scale: float) -> Sheet:
    """Kernels, float32 (kernels, channels, rows, columns): one row each, with a tile for each channel that it reads."""
    channels = weights.shape[1]
    shown = weights[: max(1, _MOST_TILES // channels)]
    return _sheet(colours(shown.reshape(-1, *weights.shape[2:]), scale, "weights"), scale, columns=channels)


def _sheet(tiles: Pixels, scale: float, columns: int | None = None) -> Sheet:
    tiles = tiles[:_MOST_TILES]
    count, high, wide, _ = tiles.shape
    times = max(1, math.ceil((_TILE if columns is None else _SMALL_TILE) / max(high, wide)))
    height, width = high * times + _GAP, wide * times + _GAP
    across = columns or max(1, math.ceil(math.sqrt(count * height / width)))
    down = math.ceil(count / across)
    sheet: npt.NDArray[np.uint8] = np.full((down * height, across * width, 3), 128, np.uint8)
    for place, tile in enumerate(tiles):
        top, left = place // across * height, place % across * width
        sheet[top : top + high * times, left : left + wide * times] = enlarged(tile, times)
    return Sheet(png(sheet[:-_GAP, :-_GAP]), scale, across, (height, width))


def enlarged(image: Pixels, times: int) -> Pixels:
    """Each pixel of (H, W, 3) as a block."""
    return image.repeat(times, 0).repeat(times, 1)


def png(image: Pixels) -> bytes:
    """uint8 (H, W, 3) as PNG."""
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(out, "PNG", compress_level=3)
    return out.getvalue()
