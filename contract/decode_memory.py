"""How much memory decoding an image takes, told by its header alone.

Bytes a pixel, measured with Pillow 13 on images of 12 megapixels in every mode of every format, as the growth of the
address space; `tests/contract/test_decode_memory.py` measures them again.
"""

from __future__ import annotations

from typing import Final

from PIL import Image

from contract import formats, preprocessing
from contract.preprocessing import ResizeMode

_PIXEL: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Bytes that a pixel takes in Pillow's memory, by mode; all others take `_WHOLE`."""
_WHOLE: Final = 4
_CODEC: Final = {
    "PNG": 0.3,
    "GIF": 3.0,  # the frame, and what lies below it
    "BMP": 4.0,  # run lengths are unpacked twice
    "WEBP": 8.5,  # two canvases
    "TIFF": 5.0,  # a strip or tile, which may hold all of it
    "AVIF": 9.0,  # planes, of up to 12 bits
}
"""Bytes a pixel that a codec takes beside the image; all others are taken to need `_OTHER_CODEC`."""
_OTHER_CODEC: Final = 16.0
_COEFFICIENT: Final = 2
"""Bytes of a coefficient of a progressive JPEG, which is held whole before it is decoded."""
_COPIES: Final = 3
"""How often the encoded bytes are held."""
_FIXED: Final = 6 * 2**20
"""Bytes that conversion takes whatever the size (`preprocessing` converts in tiles), and a margin."""
_MAY_TURN: Final = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
"""Where Pillow looks for an orientation."""


def needed(image: Image.Image, length: int, height: int, width: int, mode: ResizeMode = "crop") -> int:
    """Bytes that `preprocessing.finish` takes at most, what the encoded image takes included.

    Args:
        image: from `preprocessing.open_header`.
        length: bytes of the encoded image.
        height, width, mode: as `preprocessing.finish` takes them.
    """
    pixels = image.width * image.height
    if image.format in ("JPEG", "MPO"):
        scale = preprocessing.draft_scale(image.size, height, width)
        held = pixels * _COEFFICIENT * len(image.getbands()) if image.info.get("progressive") else 0
        return _FIXED + _COPIES * length + held + 2 * _WHOLE * pixels // scale**2 + _resizing(image, width, mode)
    own = _PIXEL.get(image.mode, _WHOLE)
    # twice while it is converted, then perhaps while it is turned; a WebP's pixels are copied once more
    is_copied = image.mode != "RGB" or image.has_transparency_data or image.format == "WEBP"
    is_turned = any(name in image.info for name in _MAY_TURN)
    most = max(own + _WHOLE * is_copied, 2 * _WHOLE * is_turned)
    codec = _CODEC.get(image.format or "", _OTHER_CODEC)
    return _FIXED + _COPIES * length + int(pixels * (most + codec)) + _resizing(image, width, mode)


def claimed(data: bytes) -> int:
    """Bytes that reading the header alone claims: 0 but for WebP, whose canvases Pillow makes then.

    Args:
        data: the encoded image.
    """
    if not data.startswith(b"RIFF") or formats.identify(data[: formats.HEAD]) != "WEBP":  # most are not even this
        return 0
    width, height = _webp_size(data)
    return _FIXED + _COPIES * len(data) + int(width * height * (_CODEC["WEBP"] + 2 * _WHOLE))


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP's canvas (RFC 9649), 0 where its header is damaged."""
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF


def _resizing(image: Image.Image, width: int, mode: ResizeMode) -> int:
    """The image between the two passes of a resize: as wide as the result, as high as the source."""
    return _WHOLE * width * max(image.size) if mode == "squash" else 0
