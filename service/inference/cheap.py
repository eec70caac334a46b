"""Which images are proven by their bytes to be cheap to decode, so that they need no process of their own.

A proof bounds time and memory whatever the rest of the file holds. It costs a walk over the segments of a file, which
leaves a file that has too many of them to the decode server.

Sources: ITU-T T.81 (JPEG), RFC 2083 (PNG), and what Pillow 13 does with them.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np

from contract import preprocessing

_MOST_WORK: Final = 16_000_000
"""Pixels, counted once for each scan that may refine them: 40 to 150 ms."""
_MOST_MEMORY: Final = 16 * 2**20
_MOST_SEGMENTS: Final = 256
_MOST_EXIF_ENTRIES: Final = 128
"""Pillow reads every entry of the first directory, and each may hold a copy of nearly all of the EXIF data."""
_MOST_HEAD: Final = 2**18
_FRAMES: Final = (0xC0, 0xC1, 0xC2)
"""Markers of frames that are coded by Huffman's method in blocks: baseline, extended, progressive."""
_PROGRESSIVE: Final = 0xC2
_SCAN: Final = 0xDA
_SEGMENTS: Final = frozenset((*_FRAMES, 0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE))
"""Markers of the segments that may come before the first scan: frames, tables, application data, comments."""

_PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS: Final = 1_000_000
_PNG_BYTES: Final = 2**20
_PNG_CHUNKS: Final = frozenset(
    (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"sBIT", b"bKGD", b"tIME")
)
"""Chunks that hold nothing that is unpacked beside the image itself."""


def is_cheap(data: bytes, height: int, width: int) -> bool:
    """Whether decoding an image is proven to take at most 150 ms and 16 MiB, or a little more on a slow machine.

    Args:
        data: the encoded image.
        height, width: the model's input, which says at which fraction of its size a JPEG is decoded.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return _is_cheap_jpeg(data, height, width)
    return data.startswith(_PNG_START) and len(data) <= _PNG_BYTES and _is_cheap_png(data)


def _is_cheap_jpeg(data: bytes, height: int, width: int) -> bool:
    head = _jpeg_head(data)
    if head is None:
        return False
    marker, frame = head
    size, components = (int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big")), frame[5]
    # every scan begins with these two bytes, which coded data cannot hold; `data.count` takes ten times as long
    values = np.frombuffer(data, np.uint8)
    scans = int(np.count_nonzero((values[:-1] == 0xFF) & (values[1:] == _SCAN)))
    coefficients = 2 * components if marker == _PROGRESSIVE or scans > 1 else 0
    pixels, scale = size[0] * size[1], preprocessing.draft_scale(size, height, width)
    memory = pixels * coefficients + 8 * pixels // scale**2  # the image, and once more turned
    return 0 < pixels * scans <= _MOST_WORK and memory <= _MOST_MEMORY


def _jpeg_head(data: bytes) -> tuple[int, bytes] | None:
    """The marker and the content of a JPEG's frame header; None where what comes before its first scan is unusual."""
    place, frame, has_exif = 2, None, False
    for _ in range(_MOST_SEGMENTS):
        marker, length = data[place + 1 : place + 2], int.from_bytes(data[place + 2 : place + 4], "big")
        segment = data[place + 4 : place + 2 + length]
        if data[place : place + 1] != b"\xff" or not marker or place > _MOST_HEAD:
            return None
        if marker[0] == _SCAN:
            return frame
        if marker[0] not in _SEGMENTS or length < 2:
            return None
        if marker[0] in _FRAMES:
            if frame or len(segment) < 6 or segment[0] != 8:
                return None
            frame = marker[0], segment
        elif segment.startswith(b"Exif\0"):
            if has_exif or not _is_plain_exif(segment[6:]):
                return None
            has_exif = True
        elif segment.startswith(b"MPF\0"):  # an index of several images, which is read as EXIF data are
            return None
        place += 2 + length
    return None


def _is_plain_exif(data: bytes) -> bool:
    """Whether EXIF data (a TIFF without an image) have few entries in their first directory."""
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    place = int.from_bytes(data[4:8], order)
    return place + 2 <= len(data) and int.from_bytes(data[place : place + 2], order) <= _MOST_EXIF_ENTRIES


def _is_cheap_png(data: bytes) -> bool:
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data[12:16] != b"IHDR" or not 0 < width * height <= _PNG_PIXELS:
        return False
    place = len(_PNG_START)
    for _ in range(_MOST_SEGMENTS):
        if data[place + 4 : place + 8] not in _PNG_CHUNKS:
            return False
        if data[place + 4 : place + 8] == b"IEND":
            return True
        place += 12 + int.from_bytes(data[place : place + 4], "big")
    return False
