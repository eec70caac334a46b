"""Picture bytes -> RGB uint8 (H, W, 3): the one decode and resize, for training, evaluation and serving.

The rules, in order, so that the network sees in service what it saw in training:

1. Formats: JPEG, PNG, WebP, GIF, BMP and TIFF, told by content and never by name or content type. One frame only.
2. The size in the header is checked before any pixel is decoded: Pillow alone only warns at 89 megapixels.
3. The EXIF orientation is applied.
4. Palettes become RGB, greyscale is repeated over the channels, CMYK is converted, 16 bits keep their upper 8,
   and what is transparent is laid on white.
5. A JPEG much larger than the model's input is decoded at a fraction of its size.
6. A picture that is not square is made so as the model's card says (`Fit`); shrinking is antialiased (bicubic).
"""

from __future__ import annotations

import io
import warnings
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from contract.errors import EmptyPicture, PictureTooLarge, UndecodablePicture, UnsupportedPicture

Pixels = npt.NDArray[np.uint8]
"""RGB, uint8, (height, width, 3); or a stack of them, (N, height, width, 3)."""

Fit = Literal["crop", "squash", "letterbox"]
"""How a picture takes the model's shape: `crop` keeps the centre, `squash` stretches, `letterbox` adds black bars."""

FITS: Final = get_args(Fit)
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
"""What makes a picture of each EXIF orientation upright."""

_MARGIN: Final = 4
"""A JPEG is not decoded smaller than this many times the model's input: the antialiased resize does the rest."""

_BEGINNINGS: Final = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_READS: Final = "send a JPEG, PNG, WebP, GIF, BMP or TIFF"


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, at_least: tuple[int, int] | None = None) -> Image.Image:
    """Decode one picture.

    Args:
        data: an encoded picture.
        max_pixels: width times height allowed at most.
        at_least: width and height that are enough: a JPEG that is twice as large or more is decoded at a half, a
            quarter or an eighth of its size, which the format offers for a fraction of the time (`Image.draft`).

    Returns:
        An RGB picture, upright.

    Raises:
        EmptyPicture: no bytes.
        UnsupportedPicture: not one of `FORMATS`.
        PictureTooLarge: the header claims more than `max_pixels`.
        UndecodablePicture: cut short, corrupt, without pixels, or animated.
    """
    return pixels_of(open_header(data, max_pixels=max_pixels), at_least=at_least)


def open_header(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The first half of `decode`: a picture whose header alone has been read; its `size` tells what decoding costs."""
    if not data:
        raise EmptyPicture(f"the picture is empty (0 bytes): {_READS}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of size; that is judged here
        try:
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError:
            if data.startswith(_BEGINNINGS):
                raise UndecodablePicture("the picture's header is damaged, or gives it no pixels") from None
            raise UnsupportedPicture(f"this is not a picture of a known type: {_READS}") from None
        except Image.DecompressionBombError:
            raise PictureTooLarge(f"the picture has more than {max_pixels:,} pixels: send a smaller one") from None
        except Exception as error:  # Pillow's parsers raise whatever broken headers make them raise
            raise UndecodablePicture(f"the picture's header cannot be read ({_one_line(error)})") from None
    width, height = picture.size
    if width < 1 or height < 1:
        raise UndecodablePicture(f"the picture claims to be {width}x{height} pixels: it has nothing to show")
    if width * height > max_pixels:
        raise PictureTooLarge(
            f"the picture is {width}x{height} pixels, more than {max_pixels:,} in all: send a smaller one"
        )
    return picture


def pixels_of(picture: Image.Image, *, at_least: tuple[int, int] | None = None) -> Image.Image:
    """The second half of `decode`: a picture from `open_header`, decoded, RGB, upright."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd EXIF data, which are passed over
        try:
            if getattr(picture, "is_animated", False) and picture.format != "MPO":  # MPO: a phone's JPEG with a preview
                raise UndecodablePicture("the picture is animated or has several pages: send one frame of it")
            orientation = _orientation(picture)
            if at_least:
                picture.draft(None, at_least)
            picture.load()
            return _upright(_to_rgb(picture), orientation)
        except UndecodablePicture:
            raise
        except Exception as error:  # as above: a damaged body surfaces as OSError, SyntaxError, struct.error, ...
            raise UndecodablePicture(f"the {picture.format} picture cannot be decoded ({_one_line(error)})") from None


def fit(picture: Image.Image, height: int, width: int, how: Fit = "crop") -> Pixels:
    """Bring an RGB picture to a model's shape; one that has it already is passed on bit for bit.

    Args:
        picture: RGB, of any size.
        height, width: the model's input, in pixels.
        how: see `Fit`.

    Returns:
        (height, width, 3) uint8.
    """
    if picture.size != (width, height):
        target, resample = (width, height), Image.Resampling.BICUBIC
        if how == "crop":
            picture = ImageOps.fit(picture, target, resample)
        elif how == "letterbox":
            picture = ImageOps.pad(picture, target, resample, color=(0, 0, 0))
        else:
            picture = picture.resize(target, resample)
    return np.asarray(picture, dtype=np.uint8)


def read(data: bytes, height: int, width: int, how: Fit = "crop", *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Picture bytes to (height, width, 3) uint8: `decode` and `fit` in one. Raises what `decode` raises."""
    return finish(open_header(data, max_pixels=max_pixels), height, width, how)


def finish(picture: Image.Image, height: int, width: int, how: Fit = "crop") -> Pixels:
    """The rest of `read`, for a picture from `open_header`."""
    return fit(pixels_of(picture, at_least=(width * _MARGIN, height * _MARGIN)), height, width, how)


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB":
        return picture
    if picture.mode.startswith(("I", "F")):
        return _from_deep(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")


def _from_deep(picture: Image.Image) -> Image.Image:
    """16-bit greyscale (modes I;16 and I) keeps its upper eight bits; float greyscale (F) is taken as 0 to 255."""
    values = np.asarray(picture)
    if picture.mode != "F":
        values = values >> 8
    grey = np.nan_to_num(values, copy=False).clip(0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; upright where the EXIF data are damaged."""
    try:
        said = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # cameras and editors write whatever they like there, and the picture is none the worse for it
        return 1
    return said if isinstance(said, int) else 1


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
