"""What is in a folder, a zip or a tar: names, and how to get the bytes behind them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from contract import files
from contract.errors import UsageError
from training.data import archives
from training.data.listing import Entry, Listing, kind
from training.data.problems import Problem

ARCHIVES: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


def opened(path: Path) -> AbstractContextManager[Listing]:
    """List a folder or an archive; its entries can be read until the block ends.

    Raises:
        UsageError: it is neither a folder nor named as an archive.
        DataError: it cannot be read as an archive, or holds a path that climbs out of it.
    """
    if path.is_dir():
        return _folder(path)
    if not is_archive(path):
        raise UsageError(
            f"{path} is of no known kind: give a folder, one of {' '.join(ARCHIVES)}, a .npz or a .csv file"
        )
    return archives.unzipped(path) if path.suffix.lower() == ".zip" else archives.untarred(path)


def is_archive(path: Path) -> bool:
    """Whether a file is named as an archive."""
    return path.name.lower().endswith(ARCHIVES)


def sha256(path: Path) -> str:
    """A file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _folder(root: Path) -> Iterator[Listing]:
    listing = Listing()

    unlisted = set[str]()

    def report(error: OSError) -> None:
        name = Path(error.filename).relative_to(root).as_posix()
        text = f"{name}/ cannot be listed ({error.strerror}): left out"
        listing.problems.append(Problem("unreadable_folder", text, (name,)))
        unlisted.add(name)

    for path in files.below(root, report):
        name = path.relative_to(root).as_posix()
        if os.path.isdir(path):
            if name not in unlisted:  # that is not the same as empty
                listing.entries.append(Entry(name, "folder"))
        elif files.is_file(path):
            listing.entries.append(Entry(name, kind(name, files.head(path)), partial(files.contents, path)))
    yield listing
