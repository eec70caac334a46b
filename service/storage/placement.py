"""Versions in the models folder that came from a store: where they are kept, and how one is put in place at once.

<name>/<version>                a link to the folder below; replacing a link is one step, replacing a folder is not
<name>/.content-*/              the version's files and its manifest
<name>/.download-*/             what is being downloaded
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from contract import manifest, repository
from contract.errors import BundleError

_CONTENT: Final = ".content-"
_DOWNLOAD: Final = ".download-"


def is_placed(folder: Path) -> bool:
    """Whether a version's folder is one that `place` has made."""
    return folder.is_symlink() and os.readlink(folder).startswith(_CONTENT)


def placed(root: Path, name: str) -> list[int]:
    """The versions of a model that came from a store, newest first."""
    return [number for number in reversed(repository.versions(root, name)) if is_placed(root / name / str(number))]


def digest(folder: Path) -> str | None:
    """The digest of the version in a folder; None where there is none that came from a store."""
    try:
        return manifest.digest((folder / manifest.NAME).read_bytes()) if is_placed(folder) else None
    except OSError:
        return None


@contextmanager
def download(parent: Path) -> Iterator[Path]:
    """A folder beside its final place, removed after the block unless it was put there."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=_DOWNLOAD, dir=parent))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not any(parent.iterdir()):
            parent.rmdir()


def check_free(target: Path) -> None:
    """Raise `BundleError` where a folder is in a version's place that did not come from a store."""
    if (target.exists() or target.is_symlink()) and not is_placed(target):
        raise BundleError(f"{target} is there and did not come from a store: publish one of the two under another name")


def place(staged: Path, target: Path) -> None:
    """Put a downloaded version in its place in one step, whether another is there or not.

    Args:
        staged: from `download`; the version's files and its manifest.
        target: `<root>/<name>/<version>`, for which `check_free` holds.

    Raises:
        OSError: the disk is full, say.
    """
    for path in (*staged.rglob("*"), staged):
        repository.sync(path)
    content = target.parent / staged.name.replace(_DOWNLOAD, _CONTENT)
    staged.rename(content)
    link = target.parent / f"{_DOWNLOAD}link"
    link.unlink(missing_ok=True)
    link.symlink_to(content.name)
    link.replace(target)
    repository.sync(target.parent)


def clean(root: Path) -> None:
    """Remove what interrupted downloads left, and files that no version is of any more."""
    for folder in root.iterdir():
        if folder.is_symlink() or not folder.is_dir() or folder.name.startswith("."):
            continue
        used = {os.readlink(entry) for entry in folder.iterdir() if is_placed(entry)}
        for entry in list(folder.iterdir()):
            if entry.name.startswith(_DOWNLOAD) or (entry.name.startswith(_CONTENT) and entry.name not in used):
                entry.unlink() if entry.is_symlink() else shutil.rmtree(entry, ignore_errors=True)
