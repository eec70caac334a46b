"""A repository of bundles on disk: `<root>/<name>/<version>/`, versions being whole numbers from 1.

Publishing is one rename: a reader sees a version whole or not at all, and a crash leaves at most a hidden folder,
`.staging-*`, that nobody reads.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contract import bundle
from contract.errors import BundleError, BundleNotFound, UsageError

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")
_STAGING: Final = ".staging-"
_MOST_NAMED: Final = 5
"""How many of the things that do not count are named in an error."""


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


Fingerprint = tuple[tuple[int, int, int], ...]
"""Inode, time of change in nanoseconds and size of a version's files: another one where they may have changed."""


@dataclass(frozen=True)
class Listing:
    """What a repository holds.

    Attributes:
        versions: by model, the fingerprint of each of its versions, from oldest to newest.
        ignored: what does not count, by its path below the root, and why.
    """

    versions: dict[str, dict[int, Fingerprint]]
    ignored: dict[str, str]

    def why_empty(self) -> str:
        """What was found where no model was, for an error message."""
        found = "; ".join(f"{path} {why}" for path, why in list(self.ignored.items())[:_MOST_NAMED])
        more = len(self.ignored) - _MOST_NAMED
        return (found + (f"; and {more} more" if more > 0 else "")) or "it is empty"


def scan(root: Path) -> Listing:
    """List a repository; what cannot be read is passed over and named, and never hides the rest.

    Raises:
        BundleNotFound: `root` is not a folder, or cannot be listed.
    """
    try:
        entries = sorted(root.iterdir())
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise BundleNotFound(
            f"{root} cannot be listed ({reason}): give a folder that holds <name>/<version>/{bundle.MODEL}"
        ) from None
    found: dict[str, dict[int, Fingerprint]] = {}
    ignored: dict[str, str] = {}
    for folder in entries:
        if folder.name.startswith("."):
            continue
        numbers = _scan_model(folder, ignored)
        if numbers:
            found[folder.name] = dict(sorted(numbers.items()))
    return Listing(found, ignored)


def _scan_model(folder: Path, ignored: dict[str, str]) -> dict[int, Fingerprint]:
    """The versions in a model's folder; what is none of them is added to `ignored`."""
    try:
        if not folder.is_dir():
            ignored[folder.name] = "is not a folder"
            return {}
        if not _NAME.fullmatch(folder.name):
            ignored[folder.name] = "is no model's name (letters, digits, '.', '-' and '_', at most 100)"
            return {}
        entries = sorted(folder.iterdir())
    except OSError as error:
        ignored[folder.name] = f"cannot be read ({(error.strerror or '').lower()})"
        return {}
    found: dict[int, Fingerprint] = {}
    visible = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in visible:
        path = f"{folder.name}/{entry.name}"
        if not _NUMBER.fullmatch(entry.name):
            ignored[path] = "is no version number (1, 2, 3 ...)"
            continue
        try:
            found[int(entry.name)] = fingerprint(entry)
        except FileNotFoundError as error:
            ignored[path] = f"has no {Path(error.filename).name}"
        except OSError as error:
            ignored[path] = f"cannot be read ({(error.strerror or '').lower()})"
    if not visible:
        ignored[folder.name] = "is empty"
    return found


def fingerprint(folder: Path) -> Fingerprint:
    """What tells whether a version's files have changed, without reading them. Raises `OSError` where one is not there.

    A version counts once it has both its files, so that one that is being copied in is not taken for a broken one.
    """
    stats = []
    for name in (bundle.MODEL, bundle.CARD):
        found = (folder / name).stat()
        if not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError(errno.ENOENT, "is not a file", str(folder / name))
        stats.append((found.st_ino, found.st_mtime_ns, found.st_size))
    return tuple(stats)


def models(root: Path) -> dict[str, list[int]]:
    """The models in a repository, by name, each with its versions from oldest to newest; raises what `scan` raises."""
    return {name: list(numbers) for name, numbers in scan(root).versions.items()}


def default(names: Sequence[str]) -> str:
    """Which of a repository's models answers where none is named: `cifar10`, the one that ships, else the first."""
    return "cifar10" if "cifar10" in names or not names else names[0]


def versions(root: Path, name: str) -> list[int]:
    """The versions of a model, from oldest to newest; none if there is no such model."""
    return sorted(_scan_model(root / name, {})) if _NAME.fullmatch(name) else []


def find(root: Path, name: str, version: int | None = None) -> bundle.Bundle:
    """A model's bundle: the version asked for, or the newest.

    Raises:
        BundleNotFound: no such model or version; the message lists what there is.
        BundleError: its card cannot be read.
    """
    there = sorted(versions(root, name))
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
