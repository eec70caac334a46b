"""Find and read image files; every command uses these functions."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from contract import formats
from contract.errors import ImageTooLarge

LARGEST: Final = 256 * 2**20
"""Bytes: a larger file is refused without reading it into memory."""

_LITTER: Final = ("thumbs.db", "ehthumbs.db", "desktop.ini")
_SYSTEM: Final = (
    "__macosx",
    "@eadir",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "found.000",
    "#recycle",
    "@recycle",
    "recycler",
    "#snapshot",
    "@recently-snapshot",
    "@tmp",
    "network trash folder",
    "temporary items",
    "__pycache__",
)


def is_litter(name: str) -> bool:
    """Whether a file of that name is one that operating systems put beside images, such as `.DS_Store`."""
    return name.startswith("._") or name == ".DS_Store" or name.lower() in _LITTER


def is_left_out(name: str) -> bool:
    """Whether a file or folder of that name is hidden or belongs to a system: `.git`, `@eaDir`, `$RECYCLE.BIN`."""
    return name.startswith(".") or name.lower() in _SYSTEM or is_litter(name)


def below(folder: Path, on_error: Callable[[OSError], None] | None = None) -> list[Path]:
    """List all files and folders below a folder, sorted. Links to folders are followed, unless they form a circle.

    Folders that are hidden or belong to a system are listed, but not what is in them.

    Args:
        folder: where to look.
        on_error: called for each subfolder that cannot be listed, which is then skipped. The error's `filename` is the
            subfolder.

    Raises:
        OSError: the folder itself cannot be listed, or a subfolder where `on_error` is None.
    """
    paths: list[Path] = []

    def walk(current: Path, above: tuple[str, ...]) -> None:
        real = os.path.realpath(current)
        if real in above:  # a link to a folder that contains it
            return
        try:
            entries = list(current.iterdir())
        except OSError as error:
            if on_error is None or current == folder:
                raise
            on_error(error)
            return
        for entry in entries:
            paths.append(entry)
            if os.path.isdir(entry) and not is_left_out(entry.name):
                walk(entry, (*above, real))

    walk(folder, ())
    return sorted(paths)


def images(folder: Path, on_error: Callable[[OSError], None] | None = None) -> list[Path]:
    """List the image files below a folder, sorted.

    A file is an image if its name or its first bytes say so. Hidden files and folders, and those of systems, are
    skipped. Arguments and errors are those of `below`.
    """
    return [
        path
        for path in below(folder, on_error)
        if not any(is_left_out(part) for part in path.relative_to(folder).parts)
        and is_file(path)
        and formats.is_image(path.name, head(path))
    ]


def is_file(path: Path) -> bool:
    """Whether a path is a file, not a folder, pipe or device; a path that cannot be examined counts as a file."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def head(path: Path) -> bytes:
    """Return a file's first bytes for `formats.is_image`; empty if its name is enough, or if it cannot be read."""
    if formats.is_image(path.name, b""):
        return b""
    try:
        with path.open("rb") as file:
            return file.read(formats.HEAD)
    except OSError:
        return b""  # by its name it is not an image


def contents(path: Path) -> bytes:
    """Read an image file.

    Raises:
        ImageTooLarge: it has more than `LARGEST` bytes.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > LARGEST:
        raise ImageTooLarge(f"{size:,} bytes are more than the {LARGEST:,} that an image may have")
    return path.read_bytes()
