"""Images that tests make for themselves."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.models import COLOURS

RGB = {"red": (250, 5, 5), "green": (5, 250, 5), "blue": (5, 5, 250), "grey": (127, 127, 127)}


def image(colour: str = "red", size: tuple[int, int] = (8, 8), kind: str = "PNG", mode: str = "RGB") -> bytes:
    """An encoded image of one colour; `size` is width and height."""
    made = Image.new("RGB", size, RGB[colour])
    out = io.BytesIO()
    (made if mode == "RGB" else made.convert(mode)).save(out, kind)
    return out.getvalue()


def class_folder(root: Path, *, each: int = 12, size: tuple[int, int] = (16, 16), seed: int = 0) -> Path:
    """Labelled images that a network learns in a moment: `train/` and `test/`, a folder a colour, noisy PNGs."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", each), ("test", max(2, each // 3))):
        for colour in COLOURS:
            folder = root / split / colour
            folder.mkdir(parents=True)
            for i in range(count):
                noise = rng.integers(-40, 40, (size[1], size[0], 3))
                pixels = np.clip(np.array(RGB[colour]) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size, with next to nothing in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


def pixels(*colours: str) -> np.ndarray:
    return np.stack([np.full((8, 8, 3), RGB[colour], np.uint8) for colour in colours])
