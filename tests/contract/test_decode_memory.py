from __future__ import annotations

import io
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contract import decode_memory, preprocessing

SIZE = (1600, 1200)
TURNED = Image.Exif()
TURNED[0x0112] = 6


def encoded(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    """A smooth image, which is cheap to encode; `mode` is what it is saved as."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (20, 30, 4), dtype=np.uint8))
    made = small.resize(SIZE).convert("RGB")
    if mode in ("RGBA", "LA"):
        made = small.resize(SIZE).convert(mode)
    elif mode == "I;16":
        made = Image.fromarray(np.asarray(made.convert("L")).astype(np.uint16) * 257)
    elif mode == "F":
        made = Image.fromarray(np.asarray(made.convert("L")).astype(np.float32) / 255)
    else:
        made = made.convert(mode)
    out = io.BytesIO()
    made.save(out, kind, **options)
    return out.getvalue()


CASES: dict[str, tuple[Any, ...]] = {
    "png": ("PNG",),
    "png turned": ("PNG", "RGB", {"exif": TURNED}),
    "png rgba": ("PNG", "RGBA"),
    "png rgba turned": ("PNG", "RGBA", {"exif": TURNED}),
    "png palette": ("PNG", "P"),
    "png palette transparent": ("PNG", "P", {"transparency": 3}),
    "png grey": ("PNG", "L"),
    "png grey transparent": ("PNG", "LA"),
    "png one bit": ("PNG", "1"),
    "png 16 bits": ("PNG", "I;16"),
    "webp": ("WEBP", "RGB", {"method": 0}),
    "webp lossless": ("WEBP", "RGB", {"lossless": True, "quality": 0, "method": 0}),
    "webp rgba": ("WEBP", "RGBA", {"lossless": True, "quality": 0, "method": 0}),
    "webp rgba turned": ("WEBP", "RGBA", {"method": 0, "exif": TURNED}),
    "jpeg": ("JPEG",),
    "jpeg grey": ("JPEG", "L"),
    "jpeg cmyk": ("JPEG", "CMYK"),
    "jpeg progressive": ("JPEG", "RGB", {"progressive": True}),
    "jpeg progressive 4:4:4": ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
    "bmp": ("BMP",),
    "gif": ("GIF", "P"),
    "gif transparent": ("GIF", "P", {"transparency": 0}),
    "tiff": ("TIFF",),
    "tiff in one strip": ("TIFF", "RGB", {"compression": "tiff_lzw", "strip_size": 2**30}),
    "tiff rgba": ("TIFF", "RGBA", {"compression": "tiff_adobe_deflate", "strip_size": 2**30}),
    "tiff cmyk": ("TIFF", "CMYK", {"compression": "tiff_lzw"}),
    "tiff float": ("TIFF", "F"),
    "tiff 16 bits": ("TIFF", "I;16"),
    "avif": ("AVIF", "RGB", {"speed": 10}),
    "avif 4:4:4": ("AVIF", "RGB", {"speed": 10, "quality": 95, "subsampling": "4:4:4"}),
    "avif rgba": ("AVIF", "RGBA", {"speed": 10}),
    "avif rgba turned": ("AVIF", "RGBA", {"speed": 10, "exif": TURNED}),
}


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def _measure(data: bytes) -> tuple[int, int]:
    """What decoding is said to take, and by how much it makes the address space of a fresh process grow."""
    before = _memory("VmSize")
    image = preprocessing.open_header(data)
    said = decode_memory.needed(image, len(data), 32, 32)
    preprocessing.finish(image, 32, 32)
    return said, _memory("VmPeak") - before


@pytest.fixture(scope="module")
def measured() -> dict[str, tuple[int, int]]:
    """Of each case, measured in a process of its own."""
    images = {
        name: encoded(kind, *(mode or ["RGB"])[:1], **(mode[1] if len(mode) > 1 else {}))
        for name, (kind, *mode) in CASES.items()
    }
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["contract.decode_memory"])
    with context.Pool(1, maxtasksperchild=1) as pool:
        return dict(zip(images, pool.map(_measure, images.values(), chunksize=1), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_decoding_takes_no_more_than_is_said(measured: dict[str, tuple[int, int]], name: str) -> None:
    said, took = measured[name]
    assert took <= said
    assert said <= 3 * took + 16 * 2**20


def test_twelve_megapixels_of_the_hungriest_kind_take_less_than_260_mb() -> None:
    data = io.BytesIO()
    Image.new("RGBA", (4000, 3000), (1, 2, 3, 4)).save(data, "WEBP", lossless=True, quality=0, method=0)
    image = preprocessing.open_header(data.getvalue())
    assert decode_memory.needed(image, 16 * 2**20, 32, 32) < 260e6


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": TURNED}], ids=["VP8", "VP8L", "VP8X"])
def test_a_webp_is_judged_before_its_canvas_is_made(options: dict[str, Any]) -> None:
    data = encoded("WEBP", **options)
    width, height = SIZE
    assert 16 * width * height < decode_memory.claimed(data) < 20 * width * height + 16 * 2**20
    assert decode_memory.claimed(encoded("PNG")) == 0


def test_a_high_and_narrow_image_is_not_stretched_for_nothing() -> None:
    image = Image.new("L", (1, 100_000))
    assert decode_memory.needed(image, 0, 32, 32, "squash") > 100_000 * 32 * 4
