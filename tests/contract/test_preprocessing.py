from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps, TiffImagePlugin

from contract import formats, preprocessing
from contract.errors import EmptyImage, ImageError, ImageTooLarge, UndecodableImage, UnsupportedImage
from tests.support.images import image, png_of_size


def encoded(made: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    made.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_come_back_pixel_by_pixel(noise: np.ndarray, kind: str) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(preprocessing.read(encoded(Image.fromarray(noise), kind, **options), 20, 30), noise)


@pytest.mark.parametrize("kind", ["JPEG", "GIF"])
def test_lossy_formats_come_back_nearly(kind: str) -> None:
    pixels = preprocessing.read(image("blue", (16, 16), kind), 16, 16)
    assert np.abs(pixels.astype(int) - (5, 5, 250)).max() < 8


def test_greyscale_is_repeated_over_the_channels() -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    np.testing.assert_array_equal(preprocessing.read(encoded(Image.fromarray(grey)), 8, 8), np.stack([grey] * 3, -1))


def test_one_bit_is_black_and_white() -> None:
    assert preprocessing.read(encoded(Image.new("1", (4, 4), 1)), 4, 4).min() == 255


def test_palette_becomes_rgb() -> None:
    made = Image.new("RGB", (8, 8), (10, 200, 30)).convert("P", palette=Image.Palette.ADAPTIVE)
    np.testing.assert_array_equal(preprocessing.read(encoded(made), 8, 8)[0, 0], (10, 200, 30))


def test_transparency_is_laid_on_white() -> None:
    made = Image.new("RGBA", (2, 1), (200, 0, 0, 0))
    made.putpixel((1, 0), (200, 0, 0, 255))
    np.testing.assert_array_equal(preprocessing.read(encoded(made), 1, 2), [[(255, 255, 255), (200, 0, 0)]])


def test_a_transparent_palette_colour_is_laid_on_white() -> None:
    made = Image.new("P", (4, 4), 0)
    made.putpalette([9, 9, 9] + [0] * 765)
    np.testing.assert_array_equal(preprocessing.read(encoded(made, transparency=0), 4, 4)[0, 0], (255, 255, 255))


def test_cmyk_is_converted() -> None:
    made = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red = preprocessing.read(encoded(made, "JPEG", quality=95), 8, 8)[0, 0]
    assert red[0] > 240
    assert red[1] < 15


@pytest.mark.parametrize(("bits", "most"), [(10, 1023), (12, 4095), (12, 1024), (14, 16383), (16, 65535), (16, 20000)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_deep_greyscale_is_scaled_by_the_least_depth_that_holds_it(bits: int, most: int, kind: str) -> None:
    deep = np.linspace(0, most, 64).astype(np.uint16).reshape(8, 8)
    read = preprocessing.read(encoded(Image.fromarray(deep), kind), 8, 8)
    np.testing.assert_array_equal(read, np.stack([deep >> bits - 8] * 3, -1))


def test_a_tiff_may_declare_what_is_white() -> None:
    deep = np.array([[0, 500], [1000, 250]], np.uint16)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[281] = 2000
    read = preprocessing.read(encoded(Image.fromarray(deep), "TIFF", tiffinfo=tags), 2, 2)
    np.testing.assert_array_equal(read[..., 0], [[0, 63], [127, 31]])
    tags[281] = 700  # the image itself has more: that is no maximum
    read = preprocessing.read(encoded(Image.fromarray(deep), "TIFF", tiffinfo=tags), 2, 2)
    np.testing.assert_array_equal(read[..., 0], deep >> 2)


def png_of_16_bits(colours: np.ndarray) -> bytes:
    """A PNG of 16 bits a colour, which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, bands = colours.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[bands], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_deep_colours_are_scaled_by_the_same_rule() -> None:
    colours = np.zeros((2, 2, 3), np.uint16)
    colours[0, 0], colours[1, 1] = (4000, 2000, 0), (256, 512, 1024)
    read = preprocessing.read(png_of_16_bits(colours), 2, 2)
    np.testing.assert_array_equal(read[0, 0], (240, 112, 0))  # 12 bits, of which Pillow leaves the upper four
    full = np.full((2, 2, 4), 65535, np.uint16)
    full[0, 0] = (32768, 16384, 0, 65535)
    np.testing.assert_array_equal(preprocessing.read(png_of_16_bits(full), 2, 2)[0, 0], (128, 64, 0))


@pytest.mark.parametrize(
    ("values", "read"),
    [
        ([0.0, 120.0, 255.0], [0, 120, 255]),
        ([0.0, 0.5, 1.0], [0, 127, 255]),
        ([0.0, 2048.0, 4095.0], [0, 128, 255]),
        ([np.nan, 100.0, np.inf], [0, 100, 100]),
        ([-5.0, 10.0, -np.inf], [0, 10, 0]),
    ],
)
def test_float_tiffs_are_read(values: list[float], read: list[int]) -> None:
    data = encoded(Image.fromarray(np.array([values], np.float32)), "TIFF")
    np.testing.assert_array_equal(preprocessing.read(data, 1, 3)[0, :, 0], read)


@pytest.mark.parametrize(("orientation", "size"), [(1, (64, 96)), (3, (64, 96)), (6, (96, 64)), (8, (96, 64))])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_header_tells_the_size_that_decoding_gives(orientation: int, size: tuple[int, int], kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.new("RGB", (96, 64)), kind, exif=exif)
    assert preprocessing.upright_size(preprocessing.open_header(data)) == size
    assert preprocessing.decode(data).size == size[::-1]


def test_exif_orientation_is_applied() -> None:
    made = Image.new("RGB", (4, 2), (0, 0, 0))
    made.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: what is stored top left belongs top right
    pixels = preprocessing.read(encoded(made, exif=exif), 4, 2)
    assert pixels.shape == (4, 2, 3)
    assert pixels[0, 1, 0] == 255


def exif_of(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF data with those tags: number, type, count, and four bytes of value; as cameras should not write them."""
    body = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + b"\0\0\0\0"


TURNED = (0x0112, 3, 1, struct.pack("<HH", 6, 0))


@pytest.mark.parametrize(
    ("entries", "turned"),
    [
        ([TURNED], True),
        ([(0x0100, 2, 4, b"wide"), TURNED], True),
        ([TURNED, (0x011A, 2, 4, b"tall")], True),
        ([TURNED, (0x011A, 9, 1, b"\xff\xff\xff\xff")], True),
        ([(0x0112, 2, 4, b"left")], False),
        ([(0x0112, 3, 1, struct.pack("<HH", 77, 0))], False),
        ([(0x0112, 3, 60_000, b"\xff\xff\xff\xff")], False),
    ],
)
def test_odd_exif_data_do_not_spoil_an_image(entries: list[tuple[int, int, int, bytes]], turned: bool) -> None:
    data = encoded(Image.new("RGB", (4, 2)), "JPEG", exif=exif_of(*entries))
    assert preprocessing.decode(data).size == ((2, 4) if turned else (4, 2))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_every_orientation_is_upright(orientation: int, kind: str) -> None:
    """Pillow's own transposition is the yardstick."""
    made = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(made, kind, exif=exif)
    theirs = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(np.asarray(preprocessing.decode(data)), np.asarray(theirs))


def test_a_phone_s_two_image_jpeg_gives_its_first() -> None:
    second = Image.new("RGB", (8, 8), (0, 0, 255))
    data = encoded(Image.new("RGB", (8, 8), (255, 0, 0)), "MPO", save_all=True, append_images=[second])
    assert preprocessing.read(data, 8, 8)[0, 0, 0] > 240


def test_right_size_is_not_resampled(noise: np.ndarray) -> None:
    for how in preprocessing.RESIZE_MODES:
        np.testing.assert_array_equal(preprocessing.resize(Image.fromarray(noise), 20, 30, how), noise)


def test_crop_keeps_the_centre() -> None:
    stripes = np.zeros((10, 30, 3), np.uint8)
    stripes[:, 10:20] = 255
    assert preprocessing.resize(Image.fromarray(stripes), 10, 10, "crop").min() == 255


def test_squash_keeps_everything() -> None:
    stripes = np.zeros((10, 30, 3), np.uint8)
    stripes[:, 15:] = 255
    squashed = preprocessing.resize(Image.fromarray(stripes), 10, 10, "squash")
    assert squashed[:, 0].max() == 0
    assert squashed[:, -1].min() == 255


def test_letterbox_adds_black_bars() -> None:
    boxed = preprocessing.resize(Image.new("RGB", (30, 10), (255, 255, 255)), 30, 30, "letterbox")
    assert boxed[0].max() == 0
    assert boxed[15].min() == 255


def test_shrinking_is_antialiased() -> None:
    checks = np.indices((256, 256)).sum(0) % 2 * 255
    small = preprocessing.resize(Image.fromarray(np.stack([checks] * 3, -1).astype(np.uint8)), 16, 16)
    assert np.abs(small.astype(int) - 127).max() < 10  # picking pixels would give 0 or 255


def test_a_photograph_decoded_at_a_fraction_looks_as_when_decoded_whole() -> None:
    rng = np.random.default_rng(0)
    scene = np.asarray(Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize((1600, 1200)))
    for exif in (None, 6):
        tag = Image.Exif()
        if exif:
            tag[0x0112] = exif
        data = encoded(Image.fromarray(scene), "JPEG", quality=92, exif=tag)
        small = preprocessing.read(data, 32, 32)
        whole = preprocessing.resize(preprocessing.decode(data), 32, 32)
        assert preprocessing.decode(data, at_least=(128, 128)).size in {(200, 150), (150, 200)}
        assert np.abs(small.astype(int) - whole).max() <= 3
        assert np.abs(small.astype(int) - whole).mean() < 0.5


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (b"", EmptyImage, "empty"),
        (b"hello, this is text", UnsupportedImage, "not an image"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', UnsupportedImage, "not an image"),
        (b"%PDF-1.7\n", UnsupportedImage, "not an image"),
        (image("red", (64, 64), "JPEG")[:640], UndecodableImage, "JPEG"),
        (image("red", (64, 64), "PNG")[:60], UndecodableImage, "PNG"),
        (png_of_size(0, 0), ImageError, "."),
        (png_of_size(50_000, 50_000), ImageTooLarge, "pixels"),
        (png_of_size(10_000, 9_000), ImageTooLarge, "10000x9000"),
        (b"\xff\xd8\xff" + b"\0" * 50, ImageError, "."),
        (b"GIF89a", ImageError, "."),
    ],
    ids=["empty", "text", "svg", "pdf", "cut jpeg", "cut png", "0x0", "bomb", "large", "jpeg of zeros", "gif header"],
)
def test_what_is_no_image_is_refused(data: bytes, error: type[ImageError], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        preprocessing.decode(data)
    assert "\n" not in str(caught.value)
    assert 400 <= caught.value.status < 500


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_animations_are_refused(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), (i * 60, 0, 0)) for i in range(3)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(UndecodableImage, match="one frame"):
        preprocessing.decode(data)


def test_damage_anywhere_is_an_image_error() -> None:
    """Whatever Pillow raises for broken bytes becomes one of ours."""
    rng = np.random.default_rng(1)
    for kind in formats.FORMATS:
        whole = image("green", (24, 24), kind)
        for _ in range(120):
            broken = bytearray(whole)
            for place in rng.integers(0, len(whole), 4):
                broken[place] = rng.integers(0, 256)
            with contextlib.suppress(ImageError):
                assert preprocessing.read(bytes(broken), 8, 8).shape == (8, 8, 3)


def test_decoding_leaves_the_filters_of_warnings_to_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """`warnings.catch_warnings` replaces them for the whole process, and another thread may put them back too early."""
    filters, seen = warnings.filters, list[bool]()

    def watched(name: str) -> Callable[..., object]:
        original = getattr(Image, name)

        def call(*arguments: object, **options: object) -> object:
            seen.append(warnings.filters is filters)
            return original(*arguments, **options)

        return call

    for name in ("open", "new"):
        monkeypatch.setattr(Image, name, watched(name))
    made = encoded(Image.fromarray(np.full((8, 8, 4), 7, np.uint8), "RGBA"))
    seen.clear()
    preprocessing.read(made, 8, 8)
    assert len(seen) >= 2
    assert all(seen)
