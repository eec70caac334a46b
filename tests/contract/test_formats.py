from __future__ import annotations

import io

import pytest
from PIL import Image

from contract import formats, preprocessing
from contract.errors import UnsupportedImage

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
HEIC_BY_BRAND = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(100)
JPEG_XL = b"\xff\x0a" + bytes(60)


@pytest.mark.parametrize("kind", formats.FORMATS)
def test_each_format_is_told_by_its_first_bytes_and_read(kind: str) -> None:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 60, 60)).save(out, kind)
    assert formats.identify(out.getvalue()[: formats.HEAD]) == kind
    red, green, _ = preprocessing.read(out.getvalue(), 16, 16)[8, 8]
    assert abs(int(red) - 200) < 12
    assert abs(int(green) - 60) < 12


@pytest.mark.parametrize("text", [b"", b"BM", b"BMW is a class of its own", b"RIFF....WAVEfmt ", b"GIF", b"%PDF-1.7"])
def test_what_is_no_image_is_of_no_format(text: bytes) -> None:
    assert formats.identify(text) is None


@pytest.mark.parametrize(
    ("data", "says"),
    [(HEIC, "HEIC.*convert it to JPEG"), (HEIC_BY_BRAND, "HEIC.*convert it to JPEG"), (JPEG_XL, "JPEG XL.*convert")],
)
def test_a_format_that_is_not_read_is_named_with_what_to_do(data: bytes, says: str) -> None:
    """Whatever the file is called: phones send HEIC as .jpg."""
    with pytest.raises(UnsupportedImage, match=says):
        preprocessing.decode(data)
