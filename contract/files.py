"""Files in folders, as every command looks for them and reads them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from contract import formats
from contract.errors import ImageTooLarge

LARGEST: Final = 256 * 2**20
"""No file of an image is larger, in bytes; what is, is not read into memory to find that out."""

_LITTER: Final = ("thumbs.db", "ehthumbs.db", "desktop.ini")
_SYSTEM: Final = (
    "__macosx",
    "@eadir",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "#recycle",
    "__pycache__",
)


def is_litter(name: str) -> bool:
    """Whether a file of that name is what systems leave beside images: `.DS_Store`, `._photo.jpg`, `Thumbs.db`."""
    return name.startswith("._") or name == ".DS_Store" or name.lower() in _LITTER


def is_left_out(name: str) -> bool:
    """Whether a file or folder of that name is hidden, or a system's own: `.git`, `@eaDir`, `$RECYCLE.BIN`."""
    return name.startswith(".") or name.lower() in _SYSTEM or is_litter(name)


def below(folder: Path, on_error: Callable[[OSError], None] | None = None) -> list[Path]:
    """All files and folders in a folder and those in it, sorted; links to folders are followed, but not back up.

    Args:
        folder: where to look.
        on_error: called for each folder in it that cannot be listed; that one is passed over then. The error's
            `filename` says which.

    Raises:
        OSError: the folder itself, or without `on_error` one in it, cannot be listed.
    """
    found: list[Path] = []

    def walk(here: Path, above: tuple[str, ...]) -> None:
        real = os.path.realpath(here)
        if real in above:  # a link to a folder that it is in
            return
        try:
            entries = list(here.iterdir())
        except OSError as error:
            if on_error is None or here == folder:
                raise
            on_error(error)
            return
        for entry in entries:
            found.append(entry)
            if entry.is_dir():
                walk(entry, (*above, real))

    walk(folder, ())
    return sorted(found)


def images(folder: Path, on_error: Callable[[OSError], None] | None = None) -> list[Path]:
    """The files in a folder and those in it that are images, or are named as such, sorted.

    What is hidden or a system's own is passed over; so is a file that is no image by its name nor by its first bytes.
    Arguments and errors are those of `below`.
    """
    return [
        path
        for path in below(folder, on_error)
        if not any(is_left_out(part) for part in path.relative_to(folder).parts)
        and path.is_file()
        and formats.is_image(path.name, head(path))
    ]


def head(path: Path) -> bytes:
    """A file's first bytes, for `formats.is_image`; none where its name says enough, or where it cannot be read."""
    if formats.is_image(path.name, b""):
        return b""
    try:
        with path.open("rb") as file:
            return file.read(formats.HEAD)
    except OSError:
        return b""  # it does not claim to be an image


def contents(path: Path) -> bytes:
    """An image file's bytes.

    Raises:
        ImageTooLarge: there are more than `LARGEST`.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > LARGEST:
        raise ImageTooLarge(f"{size:,} bytes are more than the {LARGEST:,} that an image may have")
    return path.read_bytes()
