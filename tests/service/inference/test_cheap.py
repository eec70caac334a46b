from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from service.inference.cheap import is_cheap


def _jpeg(size: tuple[int, int] = (400, 300), **options: object) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "JPEG", **options)
    return out.getvalue()


def _png(size: tuple[int, int] = (400, 300)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (1, 2, 3)).save(out, "PNG")
    return out.getvalue()


def _with_segment(marker: int, content: bytes, data: bytes) -> bytes:
    return data[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content + data[2:]


def _with_chunk(kind: bytes, content: bytes, data: bytes) -> bytes:
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return data[:33] + chunk + data[33:]


def _exif(entries: int, length: int = 4) -> bytes:
    directory = b"".join(struct.pack("<HHII", i + 1, 7, length, 26) for i in range(entries))
    return b"Exif\0\0" + struct.pack("<2sHIH", b"II", 42, 8, entries) + directory + bytes(length + 4)


@pytest.mark.parametrize(
    "data",
    [
        _jpeg(),
        _jpeg(progressive=True),
        _jpeg((4000, 3000)),
        _with_segment(0xE1, _exif(20), _jpeg()),
        _png(),
        _png((1000, 1000)),
    ],
    ids=["photograph", "progressive", "12 megapixels, decoded at an eighth", "EXIF", "PNG", "PNG of a megapixel"],
)
def test_ordinary_images_are_cheap(data: bytes) -> None:
    assert is_cheap(data, 32, 32)


def _repeated_scan(times: int) -> bytes:
    data = _jpeg(progressive=True)
    last = data[data.rfind(b"\xff\xda") : -2]
    return data[:-2] + last * times + b"\xff\xd9"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff",
        _jpeg()[:100],
        _repeated_scan(1500),
        _jpeg((4000, 3000), progressive=True),
        _with_segment(0xE1, _exif(200), _jpeg()),
        _with_segment(0xE1, _exif(2), _with_segment(0xE1, _exif(2), _jpeg())),
        _with_segment(0xE2, b"MPF\0" + bytes(100), _jpeg()),
        _with_segment(0xD0, b"xx", _jpeg()),
        _with_segment(0xC9, _jpeg()[2:20], _jpeg()),
        _png((1001, 1000)),
        _with_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(1000)), _png()),
        _with_chunk(b"eXIf", _exif(2)[6:], _png()),
        b"GIF89a" + bytes(100),
    ],
    ids=[
        "nothing",
        "a start alone",
        "a head alone",
        "a scan 1500 times",
        "12 megapixels, whole coefficients",
        "many EXIF entries",
        "EXIF data in two parts",
        "an index of images",
        "a marker without a segment",
        "arithmetic coding",
        "PNG too large",
        "PNG with packed data",
        "PNG with EXIF",
        "another format",
    ],
)
def test_what_is_not_proven_is_not_cheap(data: bytes) -> None:
    assert not is_cheap(data, 32, 32)


def test_a_jpeg_is_cheap_only_where_it_is_decoded_smaller() -> None:
    assert not is_cheap(_jpeg((4000, 3000)), 1024, 1024)
