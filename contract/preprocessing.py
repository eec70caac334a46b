"""Decode and resize images to RGB uint8 (H, W, 3), in the same way for training, evaluation and serving.

The rules, in order:

1. Formats: `contract.formats`, identified by content, never by name or content type. One frame only.
2. The size in the header is checked before any pixel is decoded; Pillow alone only warns, at 89 megapixels.
3. The EXIF orientation is applied.
4. Palettes become RGB, greyscale is repeated over the channels, CMYK is converted, and transparent pixels are put on a
   white background. More than 8 bits are scaled to 8: by the maximum that the file declares, else by the smallest of
   10, 12, 14 and 16 bits that holds the image's largest value. Floats are taken as 0 to 1 if none is larger, else as
   0 to 255, else as whole numbers.
5. A JPEG much larger than the model's input is decoded at a fraction of its size.
6. An image of another aspect ratio is resized as the model's card says (`ResizeMode`); shrinking is antialiased
   (bicubic).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from typing import Final, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
from PIL import AvifImagePlugin, ExifTags, Image, ImageOps, UnidentifiedImageError

from contract import formats
from contract.errors import EmptyImage, ImageTooLarge, UndecodableImage, UnsupportedImage

Pixels = npt.NDArray[np.uint8]
"""RGB, uint8, (height, width, 3); or a stack of them, (N, height, width, 3)."""

ResizeMode = Literal["crop", "squash", "letterbox"]
"""How an image gets the input size: `crop` keeps the centre, `squash` stretches, `letterbox` adds black bars."""

RESIZE_MODES: Final = get_args(ResizeMode)
MAX_PIXELS: Final = 50_000_000
"""Width times height that is decoded at most: above any camera phone's default, 150 MB as RGB."""

_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that makes an image of each EXIF orientation upright."""

_MARGIN: Final = 4
"""A JPEG is not decoded smaller than this many times the model's input: the antialiased resize does the rest."""

_TILE: Final = 2**18
"""Pixels that are converted at once."""

_DEPTHS: Final = (10, 12, 14, 16, 24, 32)
"""Bits that cameras and scanners give a value; deeper than 16 is only what 32-bit files can hold."""
_DECLARED_MAXIMUM: Final = (281, 341)
"""TIFF 6.0: MaxSampleValue and SMaxSampleValue."""

# Pillow warns of large images, whose size is checked here, and of odd metadata, which are ignored. This is said once:
# `warnings.catch_warnings` is not for threads, of which one would undo what another has set
warnings.filterwarnings("ignore", module=r"PIL\.")

AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # images are decoded beside each other; libavif would start a thread a core


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, at_least: tuple[int, int] | None = None) -> Image.Image:
    """Decode one image.

    Args:
        data: an encoded image.
        max_pixels: width times height allowed at most.
        at_least: a width and height that are enough. A JPEG of twice that size or more is decoded at a half, a quarter
            or an eighth of its size, which takes a fraction of the time (`Image.draft`).

    Returns:
        An RGB image, upright.

    Raises:
        EmptyImage: no bytes.
        UnsupportedImage: not one of `contract.formats.FORMATS`.
        ImageTooLarge: the header claims more than `max_pixels`.
        UndecodableImage: cut short, corrupt, without pixels, or animated.
    """
    return pixels_of(open_header(data, max_pixels=max_pixels), at_least=at_least)


def open_header(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image's header alone, the first half of `decode`; its `size` tells what decoding costs."""
    if not data:
        raise EmptyImage(f"the image is empty (0 bytes): {formats.READS}")
    try:
        image = Image.open(io.BytesIO(data), formats=formats.FORMATS)
    except UnidentifiedImageError:
        kind = formats.identify(data[: formats.HEAD])
        if kind in formats.FORMATS:
            raise UndecodableImage("the image's header is damaged, or gives it no pixels") from None
        if kind:
            raise UnsupportedImage(formats.advice(kind)) from None
        raise UnsupportedImage(f"this is not an image of a known type: {formats.READS}") from None
    except Image.DecompressionBombError:
        raise ImageTooLarge(f"the image has more than {max_pixels:,} pixels: send a smaller one") from None
    except Exception as error:  # Pillow's parsers raise whatever broken headers make them raise
        raise UndecodableImage(f"the image's header cannot be read ({_one_line(error)})") from None
    width, height = image.size
    if width < 1 or height < 1:
        raise UndecodableImage(f"the image claims to be {width}x{height} pixels: it has nothing to show")
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"the image is {width}x{height} pixels, more than {max_pixels:,} in all: send a smaller one"
        )
    return image


def pixels_of(image: Image.Image, *, at_least: tuple[int, int] | None = None) -> Image.Image:
    """Decode an image from `open_header`, which is used up, to RGB and make it upright, the second half of `decode`."""
    with np.errstate(all="ignore"):  # values that no image should have: not a number, infinite
        try:
            if getattr(image, "is_animated", False) and image.format != "MPO":  # MPO: a phone's JPEG with a preview
                raise UndecodableImage("the image is animated or has several pages: send one frame of it")
            # Pillow keeps the upper 8 of 16 bits a colour
            is_halved = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
            orientation = _orientation(image)  # may decode the image, after which its tiles are gone
            if at_least:
                image.draft(None, at_least)
            image.load()
            if image.mode.startswith(("I", "F")):
                image = _from_deep(image)
            elif is_halved and image.mode in {"RGB", "RGBA"}:
                image = _brightened(image)
            rgb = _to_rgb(image)
            if rgb is not image:
                image.close()  # it takes as much memory again
            return _upright(rgb, orientation)
        except UndecodableImage:
            raise
        except Exception as error:  # as above: a damaged body surfaces as OSError, SyntaxError, struct.error, ...
            raise UndecodableImage(f"the {image.format} image cannot be decoded ({_one_line(error)})") from None


def resize(image: Image.Image, height: int, width: int, mode: ResizeMode = "crop") -> Pixels:
    """Resize an RGB image to a model's input size; an image of that size is returned bit for bit.

    Args:
        image: RGB, of any size.
        height, width: the model's input, in pixels.
        mode: see `ResizeMode`.

    Returns:
        (height, width, 3) uint8.
    """
    if image.size != (width, height):
        target, resample = (width, height), Image.Resampling.BICUBIC
        if mode == "crop":
            image = ImageOps.fit(image, target, resample)
        elif mode == "letterbox":
            image = ImageOps.pad(image, target, resample, color=(0, 0, 0))
        else:
            image = image.resize(target, resample)
    return np.asarray(image, dtype=np.uint8)


def read(data: bytes, height: int, width: int, mode: ResizeMode = "crop", *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode and resize an image to uint8 (height, width, 3). Raises what `decode` raises."""
    return finish(open_header(data, max_pixels=max_pixels), height, width, mode)


def finish(image: Image.Image, height: int, width: int, mode: ResizeMode = "crop") -> Pixels:
    """Decode and resize an image from `open_header`, the second half of `read`."""
    return resize(pixels_of(image, at_least=(width * _MARGIN, height * _MARGIN)), height, width, mode)


def draft_scale(size: tuple[int, int], height: int, width: int) -> int:
    """By which factor, 1 to 8, `finish` decodes a JPEG of a size (width, height) smaller than it is."""
    scale = min(size[0] // (width * _MARGIN), size[1] // (height * _MARGIN))
    return next((factor for factor in (8, 4, 2) if scale >= factor), 1)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return height and width in pixels of an image from `open_header`, after its EXIF orientation is applied."""
    turned = _orientation(image) in {5, 6, 7, 8}
    return (image.width, image.height) if turned else (image.height, image.width)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    return _in_tiles(image, _on_white) if image.has_transparency_data else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def _in_tiles(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """An RGB image of what `convert` makes of each part: its copies are as large as a part, not as the image."""
    made = Image.new("RGB", image.size)
    for box in _tiles(image.size):
        made.paste(convert(image.crop(box)), box[:2])
    return made


def _tiles(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Boxes (left, upper, right, lower) of at most `_TILE` pixels that cover an image of a size."""
    width, height = size
    columns = min(width, _TILE)
    rows = max(1, _TILE // columns)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield left, top, min(left + columns, width), min(top + rows, height)


def _from_deep(image: Image.Image) -> Image.Image:
    """Scale greyscale of more than eight bits (modes I;16, I and F) to eight."""
    most = max(_largest(image.crop(box)) for box in _tiles(image.size))
    factor = 1.0
    if image.mode != "F" or most > 255:
        factor = 256 / (1 + _maximum(image, most))
    elif most <= 1:
        factor = 255.0

    def scaled(part: Image.Image) -> Image.Image:
        values = np.array(part, np.float32)
        np.nan_to_num(values, copy=False, posinf=most, neginf=0)
        values *= factor
        return Image.fromarray(values.clip(0, 255, out=values).astype(np.uint8)).convert("RGB")

    return _in_tiles(image, scaled)


def _largest(image: Image.Image) -> float:
    """The largest value that is a number, 0 at least."""
    values = np.array(image, np.float32)
    return float(values.max(where=np.isfinite(values), initial=0))


def _maximum(image: Image.Image, most: float) -> float:
    """Return the value of white: the declared one, else the largest of the smallest depth that holds `most`."""
    tags = getattr(image, "tag_v2", {})
    for tag in _DECLARED_MAXIMUM:
        said = tags.get(tag, 0)
        said = max(said) if isinstance(said, tuple) and said else said
        if isinstance(said, int | float) and said >= max(most, 1):
            return float(said)
    bits = next((bits for bits in _DEPTHS if most < 2**bits), _DEPTHS[-1])
    return float(2**bits - 1)


def _brightened(image: Image.Image) -> Image.Image:
    """Scale an RGB image of 16 bits, of which Pillow keeps the upper eight, by the rule for greyscale."""
    extrema = cast("tuple[tuple[int, int], ...]", image.getextrema())
    most = max(high for _, high in extrema[:3])
    factor = 2**16 / (1 + _maximum(image, most << 8))
    table = [min(255, int(value * factor)) for value in range(256)]
    table = table * 3 + list(range(256)) * (len(extrema) - 3)
    for box in _tiles(image.size):
        image.paste(image.crop(box).point(table), box[:2])
    return image


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8; 1 if the EXIF data are damaged."""
    if image.format == "TIFF":
        return 1  # Pillow turns these itself: their size is upright once the header is read
    try:
        said = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # EXIF data are often malformed; the image itself is still good
        return 1
    return said if isinstance(said, int) else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
