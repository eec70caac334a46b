"""Image bytes -> RGB uint8 (H, W, 3): the one decode and resize, for training, evaluation and serving.

The rules, in order, so that the network sees in service what it saw in training:

1. Formats: JPEG, PNG, WebP, GIF, BMP and TIFF, told by content and never by name or content type. One frame only.
2. The size in the header is checked before any pixel is decoded: Pillow alone only warns at 89 megapixels.
3. The EXIF orientation is applied.
4. Palettes become RGB, greyscale is repeated over the channels, CMYK is converted, 16 bits keep their upper 8,
   and what is transparent is laid on white.
5. A JPEG much larger than the model's input is decoded at a fraction of its size.
6. An image that is not square is made so as the model's card says (`ResizeMode`); shrinking is antialiased (bicubic).
"""

from __future__ import annotations

import io
import warnings
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from contract.errors import EmptyImage, ImageTooLarge, UndecodableImage, UnsupportedImage

Pixels = npt.NDArray[np.uint8]
"""RGB, uint8, (height, width, 3); or a stack of them, (N, height, width, 3)."""

ResizeMode = Literal["crop", "squash", "letterbox"]
"""How an image takes the model's shape: `crop` keeps the centre, `squash` stretches, `letterbox` adds black bars."""

RESIZE_MODES: Final = get_args(ResizeMode)
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""The file names under which those formats are looked for in folders and archives."""

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
"""What makes an image of each EXIF orientation upright."""

_MARGIN: Final = 4
"""A JPEG is not decoded smaller than this many times the model's input: the antialiased resize does the rest."""

_BEGINNINGS: Final = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_READS: Final = "send a JPEG, PNG, WebP, GIF, BMP or TIFF"


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, at_least: tuple[int, int] | None = None) -> Image.Image:
    """Decode one image.

    Args:
        data: an encoded image.
        max_pixels: width times height allowed at most.
        at_least: width and height that are enough: a JPEG that is twice as large or more is decoded at a half, a
            quarter or an eighth of its size, which the format offers for a fraction of the time (`Image.draft`).

    Returns:
        An RGB image, upright.

    Raises:
        EmptyImage: no bytes.
        UnsupportedImage: not one of `FORMATS`.
        ImageTooLarge: the header claims more than `max_pixels`.
        UndecodableImage: cut short, corrupt, without pixels, or animated.
    """
    return pixels_of(open_header(data, max_pixels=max_pixels), at_least=at_least)


def open_header(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The first half of `decode`: an image whose header alone has been read; its `size` tells what decoding costs."""
    if not data:
        raise EmptyImage(f"the image is empty (0 bytes): {_READS}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of size; that is judged here
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError:
            if data.startswith(_BEGINNINGS):
                raise UndecodableImage("the image's header is damaged, or gives it no pixels") from None
            raise UnsupportedImage(f"this is not an image of a known type: {_READS}") from None
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
    """The second half of `decode`: an image from `open_header`, decoded, RGB, upright."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd EXIF data, which are passed over
        try:
            if getattr(image, "is_animated", False) and image.format != "MPO":  # MPO: a phone's JPEG with a preview
                raise UndecodableImage("the image is animated or has several pages: send one frame of it")
            orientation = _orientation(image)
            if at_least:
                image.draft(None, at_least)
            image.load()
            return _upright(_to_rgb(image), orientation)
        except UndecodableImage:
            raise
        except Exception as error:  # as above: a damaged body surfaces as OSError, SyntaxError, struct.error, ...
            raise UndecodableImage(f"the {image.format} image cannot be decoded ({_one_line(error)})") from None


def resize(image: Image.Image, height: int, width: int, mode: ResizeMode = "crop") -> Pixels:
    """Bring an RGB image to a model's shape; one that has it already is passed on bit for bit.

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
    """Image bytes to (height, width, 3) uint8: `decode` and `resize` in one. Raises what `decode` raises."""
    return finish(open_header(data, max_pixels=max_pixels), height, width, mode)


def finish(image: Image.Image, height: int, width: int, mode: ResizeMode = "crop") -> Pixels:
    """The rest of `read`, for an image from `open_header`."""
    return resize(pixels_of(image, at_least=(width * _MARGIN, height * _MARGIN)), height, width, mode)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith(("I", "F")):
        return _from_deep(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    """16-bit greyscale (modes I;16 and I) keeps its upper eight bits; float greyscale (F) is taken as 0 to 255."""
    values = np.asarray(image)
    if image.mode != "F":
        values = values >> 8
    grey = np.nan_to_num(values, copy=False).clip(0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; upright where the EXIF data are damaged."""
    try:
        said = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # cameras and editors write whatever they like there, and the image is none the worse for it
        return 1
    return said if isinstance(said, int) else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
