"""Small JPEGs by the shortest way: libjpeg-turbo alone, without Pillow's machinery around it (docs/performance.md)."""

from __future__ import annotations

from typing import Final

import simplejpeg

from contract.preprocessing import Pixels

_START: Final = b"\xff\xd8\xff"
_EXIF: Final = b"Exif\0"
_PLAIN: Final = ("YCbCr", "Gray")


def plain(data: bytes, height: int, width: int) -> Pixels | None:
    """A JPEG of the model's size that needs no turning, uint8 (height, width, 3), bit for bit as Pillow decodes it.

    None for every other image, and for one that is damaged in any way: `contract.preprocessing` judges those, and
    nothing is decoded here.
    """
    if not data.startswith(_START) or _EXIF in data:
        return None
    try:
        there_height, there_width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if (there_height, there_width) != (height, width) or colours not in _PLAIN:
            return None
        pixels: Pixels = simplejpeg.decode_jpeg(data)
    except ValueError:
        return None
    return pixels
