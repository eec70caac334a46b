"""The image formats that are read. A format is identified by content, never by the file's name.

The name only says whether a file claims to be an image. `photo.jpg?w=640`, `photo.jpg ` and `photo` are images if their
first bytes are those of an image.
"""

from __future__ import annotations

from typing import Final

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Pillow's names of the formats that are decoded."""

SUFFIXES: Final = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif",
)  # fmt: skip
"""The usual endings of those formats' names."""

NOT_READ: Final = (
    ".heic", ".heif", ".hif", ".jxl", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".svg", ".psd", ".ico",
    ".tga", ".exr", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf",
)  # fmt: skip
"""Endings of images that are not decoded: such a file is reported as unreadable, not ignored."""

READS: Final = "send a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"
HEAD: Final = 64
"""How many of a file's first bytes `identify` needs."""

_SIGNATURES: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)
_BMP_HEADERS: Final = (12, 40, 52, 56, 64, 108, 124)
_BOXES: Final = (
    (("avif", "avis"), "AVIF"),
    (("heic", "heix", "hevc", "hevx", "heim", "heis", "mif1", "msf1"), "HEIC"),
)
"""Brands of ISO base media files (ISO/IEC 23008-12): the first that is listed decides."""
_OTHERS: Final = (
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"8BPS", "Photoshop"),
    (b"P5\n", "PGM"),
    (b"P6\n", "PPM"),
)


def identify(head: bytes) -> str | None:
    """Identify a format by a file's first bytes: one of `FORMATS`, or the name of a format that is not read.

    Args:
        head: the first `HEAD` bytes, or more.

    Returns:
        The format's name; None if the bytes are of no known image format.

    Example:
        >>> identify(b"GIF89a")
        'GIF'
    """
    if head.startswith(b"RIFF"):
        return "WEBP" if head[8:12] == b"WEBP" else None
    if head[4:8] == b"ftyp":
        brands = [head[at : at + 4].decode("latin-1") for at in (8, *range(16, len(head) - 3, 4))]
        return next((name for known, name in _BOXES if any(brand in known for brand in brands)), None)
    if head.startswith(b"BM"):  # a text may start so too: the size of the second header decides
        return "BMP" if int.from_bytes(head[14:18], "little") in _BMP_HEADERS else None
    return next((name for start, name in (*_SIGNATURES, *_OTHERS) if head.startswith(start)), None)


def is_image(name: str, head: bytes) -> bool:
    """Whether a file is or claims to be an image, by the end of its name or by its first bytes."""
    return name.lower().endswith((*SUFFIXES, *NOT_READ)) or identify(head) is not None


def advice(name: str) -> str:
    """Return what a user can do with an image of a format that is not read.

    Args:
        name: what `identify` calls the format.
    """
    if name == "HEIC":
        return (
            "HEIC images are not read: convert it to JPEG (on a Mac: sips -s format jpeg FILE --out FILE.jpg; "
            "elsewhere: heif-convert or ImageMagick), or let the camera take 'Most Compatible' images"
        )
    return f"{name} images are not read: convert it to JPEG or PNG"
