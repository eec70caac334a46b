"""A repository of bundles on disk: `<root>/<name>/<version>/`, versions being whole numbers from 1.

Publishing is one rename: a reader sees a version whole or not at all, and a crash leaves at most a hidden folder,
`.staging-*`, that nobody reads.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from contract import bundle
from contract.errors import BundleError, BundleNotFound, UsageError

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")
_STAGING: Final = ".staging-"


def shipped() -> Path:
    """The repository that comes with Kernelscope: `models/` in a checkout, `kernelscope_models/` once installed."""
    home = Path(__file__).resolve().parent.parent
    installed = home / "kernelscope_models"
    return installed if installed.is_dir() else home / "models"


def check_name(name: str) -> str:
    """Return `name` if it can name a model: letters, digits, dot, dash and underscore. Raises `UsageError`."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a model: names are of letters, digits, '.', '-' and '_', at most 100 of them"
        )
    return name


def models(root: Path) -> dict[str, list[int]]:
    """The models in a repository, by name, each with its versions from oldest to newest.

    Raises:
        BundleNotFound: `root` is not a folder.
    """
    if not root.is_dir():
        raise BundleNotFound(f"{root} is not a folder: give one that holds <name>/<version>/{bundle.MODEL}")
    found = {entry.name: versions(root, entry.name) for entry in sorted(root.iterdir()) if entry.is_dir()}
    return {name: numbers for name, numbers in found.items() if numbers and _NAME.fullmatch(name)}


def default(names: Sequence[str]) -> str:
    """Which of a repository's models answers where none is named: `cifar10`, the one that ships, else the first."""
    return "cifar10" if "cifar10" in names or not names else names[0]


def versions(root: Path, name: str) -> list[int]:
    """The versions of a model, from oldest to newest; none if there is no such model.

    A version counts once it has both its files, so that one that is being copied in is not taken for a broken one.
    """
    folder = root / name
    if not _NAME.fullmatch(name) or not folder.is_dir():
        return []
    return sorted(
        int(entry.name)
        for entry in folder.iterdir()
        if _NUMBER.fullmatch(entry.name) and all((entry / file).is_file() for file in (bundle.MODEL, bundle.CARD))
    )


def find(root: Path, name: str, version: int | None = None) -> bundle.Bundle:
    """A model's bundle: the version asked for, or the newest.

    Raises:
        BundleNotFound: no such model or version; the message lists what there is.
        BundleError: its card cannot be read.
    """
    there = versions(root, name)
    if not there:
        names = ", ".join(models(root)) or "none"
        raise BundleNotFound(f"there is no model {name!r} in {root} (models there: {names})")
    if version is not None and version not in there:
        listed = ", ".join(map(str, there))
        raise BundleNotFound(f"model {name!r} has no version {version} (versions there: {listed})")
    return bundle.read(root / name / str(there[-1] if version is None else version))


@contextmanager
def staging(root: Path, name: str) -> Iterator[Path]:
    """A hidden folder to write a bundle into, on the repository's own file system; gone when the block ends.

    Raises:
        UsageError: the name cannot name a model.
        BundleError: the repository cannot be written to.
    """
    check_name(name)
    parent = root / name
    made = [folder for folder in (parent, root) if not folder.exists()]
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=_STAGING, dir=parent))
        folder.chmod(0o755)
    except OSError as error:
        raise BundleError(f"cannot write to {parent}: {error.strerror}") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for empty in made:
            if empty.is_dir() and not any(empty.iterdir()):
                empty.rmdir()


def publish(staged: Path) -> Path:
    """Give a staged bundle the next free version, in one atomic step.

    Args:
        staged: a folder from `staging`, with a whole bundle in it.

    Returns:
        The folder of the new version.

    Raises:
        BundleError: what was staged is not a bundle, or the disk is full.
    """
    bundle.read(staged)
    try:
        for path in staged.rglob("*"):
            if path.is_file():
                _sync(path)
        _sync(staged)
        while True:
            taken = (int(entry.name) for entry in staged.parent.iterdir() if _NUMBER.fullmatch(entry.name))
            target = staged.parent / str(max(taken, default=0) + 1)
            if not _NUMBER.fullmatch(target.name):
                raise BundleError(f"{staged.parent} has version {int(target.name) - 1}, the last there can be")
            try:
                os.rename(staged, target)
            except OSError:
                if not target.exists():
                    raise
                continue  # another job published this number a moment ago: take the next
            _sync(target.parent)
            return target
    except OSError as error:
        raise BundleError(f"cannot publish to {staged.parent}: {error.strerror}") from None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
