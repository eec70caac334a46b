"""Small inputs that ask for much work or memory: images, archives of zeros, JSON and forms.

Each is legal, or nearly so, within the limits of size and pixels that the service has by default. They are made once
and kept.
"""

from __future__ import annotations

import functools
import gzip
import io
import struct
import zlib

import numpy as np
from PIL import Image

SIDE = 7071
"""Pixels; a square of this side has just under 50 megapixels, the default limit."""
LARGE_BODY = 16 * 2**20 - 4096
"""Bytes, just under the default limit of a body."""
_LARGE_IMAGE = LARGE_BODY * 3 // 4 - 2048
"""Bytes of an image that is so large once it is written as base64."""


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@functools.cache
def photograph() -> bytes:
    """A JPEG of about 70 kB, as a client sends one."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    coarse = coarse.resize((640, 480), Image.Resampling.BICUBIC)
    noisy = np.clip(np.asarray(coarse, np.int16) + rng.integers(-14, 15, (480, 640, 3)), 0, 255).astype(np.uint8)
    return _encoded(Image.fromarray(noisy), "JPEG", quality=75)


# --- images that take long


@functools.cache
def repeated_scans(side: int = 7000, repeats: int = 1500) -> bytes:
    """A progressive JPEG whose last scan, 75 bytes of it, is repeated: each costs tens of milliseconds."""
    image = Image.new("RGB", (side, side), (90, 120, 60))
    jpeg = _encoded(image, "JPEG", quality=50, progressive=True)
    scan = jpeg[jpeg.rfind(b"\xff\xda") : -2]
    return jpeg[:-2] + scan * repeats + b"\xff\xd9"


@functools.cache
def run_length_bitmap() -> bytes:
    """A bitmap of 1 kB that claims 49,999,999 × 1 pixels; Pillow decodes it in Python."""
    palette, runs = b"\0\0\0\0\xff\xff\xff\0" * 128, b"\1\0\0\0\0\1"
    start = 54 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, 49_999_999, 1, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + header + palette + runs


@functools.cache
def empty_comments() -> bytes:
    """A JPEG of one pixel behind three million empty comments, which Pillow reads one by one in Python."""
    jpeg = _encoded(Image.new("RGB", (1, 1)), "JPEG")
    return jpeg[:2] + b"\xff\xfe\0\2" * ((_LARGE_IMAGE - len(jpeg)) // 4) + jpeg[2:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@functools.cache
def empty_chunks() -> bytes:
    """A PNG of one pixel behind a million empty chunks, which Pillow reads one by one in Python."""
    png = _encoded(Image.new("RGB", (1, 1)), "PNG")
    place = png.index(b"IDAT") - 4
    return png[:place] + _chunk(b"prVt", b"") * ((_LARGE_IMAGE - len(png)) // 12) + png[place:]


# --- images that take much memory


@functools.cache
def tiny_webp(side: int = SIDE) -> bytes:
    """A lossless WebP of 46 bytes with 50 megapixels and alpha: about 0.9 GB while it is decoded."""
    image = Image.new("RGBA", (side, side), (1, 2, 3, 4))
    return _encoded(image, "WEBP", lossless=True, quality=0, method=0)


@functools.cache
def deep_png(side: int = SIDE) -> bytes:
    """A PNG of 16 bits a channel with alpha, interlaced: eight bytes a pixel, of which few are in the file."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    deflate = zlib.compressobj(1)
    data = []
    for left, top, across, down in passes:
        width, height = -(-(side - left) // across), -(-(side - top) // down)
        row = b"\0" + bytes(8 * width)
        data += [deflate.compress(row) for _ in range(height)]
    data.append(deflate.flush())
    header = struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", b"".join(data)) + _chunk(b"IEND", b"")


@functools.cache
def large_tile(side: int = 12_000) -> bytes:
    """A TIFF of 64 × 64 pixels in one tile of 144 megapixels, packed: only the image's size is in its first fields."""
    packed = zlib.compress(bytes(3 * side) * side, 1)
    tags = [
        (256, 64), (257, 64), (258, 8), (259, 8), (262, 2), (277, 3), (322, side), (323, side), (324, 0),
        (325, len(packed)),
    ]  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, start if tag == 324 else value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + fields + struct.pack("<I", 0) + packed


@functools.cache
def large_png(side: int = SIDE) -> bytes:
    """A PNG of 50 megapixels whose rows are filtered by Paeth's method."""
    deflate = zlib.compressobj(1)
    row = b"\4" + bytes(range(251)) * (3 * side // 251) + bytes(3 * side % 251)
    data = b"".join([deflate.compress(row) for _ in range(side)]) + deflate.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


@functools.cache
def large_tiff(side: int = SIDE) -> bytes:
    """A TIFF of 50 megapixels, packed with LZW."""
    return _encoded(Image.new("RGB", (side, side), (9, 60, 120)), "TIFF", compression="tiff_lzw")


@functools.cache
def twelve_megapixels() -> bytes:
    """A progressive JPEG of 4000 × 3000, one colour."""
    return _encoded(Image.new("RGB", (4000, 3000), (200, 60, 60)), "JPEG", quality=50, progressive=True)


# --- JSON and forms


@functools.cache
def json_keys() -> bytes:
    """13 MB of keys that nobody knows, after one that is known."""
    return b'{"image":"",' + b",".join(b'"%d":1' % i for i in range(1_150_000)) + b"}"


@functools.cache
def json_lists() -> bytes:
    """Five million empty lists."""
    return b"[" + b"[]," * 5_000_000 + b"[]]"


@functools.cache
def json_brackets() -> bytes:
    """Lists in lists, sixteen million deep."""
    return b'{"instances":' + b"[" * LARGE_BODY


@functools.cache
def json_digits() -> bytes:
    """One number of sixteen million digits."""
    return b'{"instances":[' + b"7" * LARGE_BODY + b"]}"


@functools.cache
def json_escapes(key: str = "image") -> bytes:
    """One string of 2.7 million escapes."""
    return b'{"%b":"' % key.encode() + b"\\u0041" * (LARGE_BODY // 6) + b'"}'


@functools.cache
def json_blanks(key: str = "image") -> bytes:
    """Base64 with a blank after each character."""
    return b'{"%b":"' % key.encode() + b"A " * (LARGE_BODY // 2 - 16) + b'"}'


def packed(data: bytes) -> bytes:
    """As a gzip body."""
    return gzip.compress(data, 6, mtime=0)


FORM = "multipart/form-data; boundary=b"


def form(files: list[bytes]) -> bytes:
    """A form of files."""
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n%b\r\n'
    return b"".join(part % file for file in files) + b"--b--\r\n"


@functools.cache
def form_of_parts() -> bytes:
    """A form of 300,000 parts without content."""
    part = b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\n\r\n'
    return part * (LARGE_BODY // len(part)) + b"--b--\r\n"


@functools.cache
def form_of_headers() -> bytes:
    """A form whose one part has 4 million header lines."""
    lines = b"X:\r\n" * (LARGE_BODY // 4 - 100)
    return b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n' + lines + b"\r\nx\r\n--b--\r\n"
