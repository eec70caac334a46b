"""Files in folders, as every command looks for them and reads them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from contract.errors import ImageTooLarge
from contract.preprocessing import SUFFIXES

LARGEST: Final = 256 * 2**20
"""No file of an image is larger, in bytes; what is, is not read into memory to find that out."""


def below(folder: Path) -> list[Path]:
    """All files and folders in a folder and those in it, sorted; links to folders are followed, but not back up.

    Raises:
        OSError: one of them cannot be listed.
    """
    return sorted(_walk(folder, ()))


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    here = os.path.realpath(folder)
    if here in above:  # a link to a folder that it is in
        return
    for entry in folder.iterdir():
        yield entry
        if entry.is_dir():
            yield from _walk(entry, (*above, here))


def images(folder: Path) -> list[Path]:
    """The files in a folder and those in it that are named as images are, sorted; raises what `below` raises."""
    return [path for path in below(folder) if path.suffix.lower() in SUFFIXES and path.is_file()]


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
