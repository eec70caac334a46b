"""Images whose decoding takes far more than their bytes suggest."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from PIL import Image

_SIDE: Final = 7000


def _encoded(made: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    made.save(out, kind, **options)
    return out.getvalue()


def photograph() -> bytes:
    """An ordinary JPEG of about 70 kB."""
    noise = np.random.default_rng(0).integers(0, 256, (320, 320, 3), dtype=np.uint8)
    return _encoded(Image.fromarray(noise), "JPEG", quality=80)


def repeated_scans(side: int = 4000, times: int = 6000) -> bytes:
    """A progressive JPEG whose last scan, tens of bytes, is repeated; it fits any budget."""
    data = _encoded(Image.new("RGB", (side, side), (90, 120, 60)), "JPEG", quality=50, progressive=True)
    last = data[data.rfind(b"\xff\xda") : -2]
    return data[:-2] + last * times + b"\xff\xd9"


def run_lengths(width: int = 20_000_000) -> bytes:
    """A bitmap of 1 kB that claims to be very wide; Pillow decodes run lengths in Python."""
    palette, runs = b"\0\0\0\0\xff\xff\xff\0" * 128, b"\1\0\0\0\0\1"
    start = 54 + len(palette)
    head = b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start)
    return head + struct.pack("<IiiHHIIiiII", 40, width, 1, 1, 8, 1, len(runs), 0, 0, 256, 0) + palette + runs


def empty_webp() -> bytes:
    """46 bytes that are 50 megapixels with transparency."""
    return _encoded(Image.new("RGBA", (7071, 7071), (1, 2, 3, 4)), "WEBP", lossless=True, quality=0, method=0)


def large_png() -> bytes:
    """A photograph-like PNG of 49 megapixels."""
    tile = np.random.default_rng(0).integers(0, 256, (70, 70, 3), dtype=np.uint8)
    return _encoded(Image.fromarray(np.tile(tile, (100, 100, 1))), "PNG", compress_level=1)


def interlaced_png() -> bytes:
    """49 megapixels of 16 bits with transparency, interlaced, packed a thousand times smaller."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(8 * _SIDE + 1)
    rows = b"".join(packer.compress(row) for _ in range(_SIDE + 16)) + packer.flush()
    head = struct.pack(">IIBBBBB", _SIDE, _SIDE, 16, 6, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def lzw_gif() -> bytes:
    """37 kB of LZW that are 49 megapixels."""
    return _encoded(Image.new("P", (_SIDE, _SIDE), 3), "GIF")


def striped_tiff() -> bytes:
    """49 megapixels in a strip for each row."""
    return _encoded(Image.new("RGB", (_SIDE, _SIDE), (9, 9, 9)), "TIFF", compression="tiff_lzw", strip_size=1)


def flat_avif() -> bytes:
    """1.3 kB of AVIF that are 49 megapixels."""
    return _encoded(Image.new("RGB", (_SIDE, _SIDE), (9, 9, 9)), "AVIF", speed=10, quality=30)


BOMBS: Final[dict[str, Callable[[], bytes]]] = {
    "repeated scans": repeated_scans,
    "repeated scans of 49 megapixels": lambda: repeated_scans(_SIDE, 1500),
    "run lengths": run_lengths,
    "run lengths of 50 megapixels": lambda: run_lengths(49_999_999),
    "empty webp": empty_webp,
    "large png": large_png,
    "interlaced png": interlaced_png,
    "lzw gif": lzw_gif,
    "striped tiff": striped_tiff,
    "flat avif": flat_avif,
}
