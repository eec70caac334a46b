"""A repository of bundles on disk: `<root>/<name>/<version>/`; versions are whole numbers from 1.

A version is published by one rename, so a reader finds it whole or not at all. A crash leaves at most a hidden folder,
`.staging-*`, that is ignored.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contract import bundle
from contract.errors import BundleError, BundleNotFound, UsageError

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")
_STAGING: Final = ".staging-"
_REFUSED: Final = ".refused.json"
_LARGEST_REFUSED: Final = 2**20
_MOST_NAMED: Final = 5
"""How many ignored entries an error message names."""


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


def is_name(name: str) -> bool:
    """Whether `name` can name a model."""
    return _NAME.fullmatch(name) is not None


def is_number(name: str) -> bool:
    """Whether `name` can be that of a version's folder."""
    return _NUMBER.fullmatch(name) is not None


Fingerprint = tuple[tuple[int, int, int], ...]
"""Inode, modification time in nanoseconds and size of a version's files; it differs if they may have changed."""


@dataclass(frozen=True)
class Listing:
    """What a repository holds.

    Attributes:
        versions: by model, the fingerprint of each of its versions, from oldest to newest.
        ignored: by path below the root, why an entry is not a model or a version.
    """

    versions: dict[str, dict[int, Fingerprint]]
    ignored: dict[str, str]

    def why_empty(self) -> str:
        """Return what is there instead of a model, for an error message."""
        named = "; ".join(f"{path} {why}" for path, why in list(self.ignored.items())[:_MOST_NAMED])
        more = len(self.ignored) - _MOST_NAMED
        return (named + (f"; and {more} more" if more > 0 else "")) or "it is empty"


def scan(root: Path) -> Listing:
    """List a repository. An entry that cannot be read is ignored and named; it does not hide the others.

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
    versions_by_name: dict[str, dict[int, Fingerprint]] = {}
    ignored: dict[str, str] = {}
    for folder in entries:
        if folder.name.startswith("."):
            continue
        numbers = _scan_model(folder, ignored)
        if numbers:
            versions_by_name[folder.name] = dict(sorted(numbers.items()))
    ignored.update(_noted(root))
    return Listing(versions_by_name, ignored)


def _scan_model(folder: Path, ignored: dict[str, str]) -> dict[int, Fingerprint]:
    """Return the versions in a model's folder; other entries are added to `ignored`."""
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
    numbers: dict[int, Fingerprint] = {}
    visible = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in visible:
        path = f"{folder.name}/{entry.name}"
        if not _NUMBER.fullmatch(entry.name):
            ignored[path] = "is no version number (1, 2, 3 ...)"
            continue
        try:
            numbers[int(entry.name)] = fingerprint(entry)
        except FileNotFoundError as error:
            ignored[path] = f"has no {Path(error.filename).name}"
        except OSError as error:
            ignored[path] = f"cannot be read ({(error.strerror or '').lower()})"
    if not visible:
        ignored[folder.name] = "is empty"
    return numbers


def note_refused(root: Path, reasons: Mapping[str, str]) -> None:
    """Say in a repository which versions were to come there and were refused; `scan` tells of them among the ignored.

    Args:
        root: the repository.
        reasons: by `<name>/<version>`, why; all others are forgotten.

    Raises:
        OSError: the repository cannot be written.
    """
    if dict(reasons) == _noted(root):
        return
    path = root / _REFUSED
    if not reasons:
        path.unlink(missing_ok=True)
        return
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(dict(reasons), indent=2), encoding="utf-8")
    draft.replace(path)


def _noted(root: Path) -> dict[str, str]:
    path = root / _REFUSED
    try:
        with path.open("rb") as file:
            raw = json.loads(file.read(_LARGEST_REFUSED))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        return {_REFUSED: "cannot be read"}
    return {str(name): str(reason) for name, reason in raw.items()} if isinstance(raw, dict) else {}


def fingerprint(folder: Path) -> Fingerprint:
    """Return a version's fingerprint without reading its files. Raises `OSError` if one of them is missing.

    A version counts once it has both files, so a version that is still being copied is not reported as broken.
    """
    stats = []
    for name in (bundle.MODEL, bundle.CARD):
        status = (folder / name).stat()
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(errno.ENOENT, "is not a file", str(folder / name))
        stats.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(stats)


def models(root: Path) -> dict[str, list[int]]:
    """Return the versions of each model, from oldest to newest. Raises what `scan` raises."""
    return {name: list(numbers) for name, numbers in scan(root).versions.items()}


def default(names: Sequence[str]) -> str:
    """Return the model that answers requests without a model's name: `cifar10`, which ships, else the first."""
    return "cifar10" if "cifar10" in names or not names else names[0]


def versions(root: Path, name: str) -> list[int]:
    """Return the versions of a model, from oldest to newest; empty if there is no such model."""
    return sorted(_scan_model(root / name, {})) if _NAME.fullmatch(name) else []


def find(root: Path, name: str, version: int | None = None) -> bundle.Bundle:
    """Return a model's bundle: the given version, or the newest.

    Raises:
        BundleNotFound: no such model or version; the message lists what there is.
        BundleError: its card cannot be read.
    """
    available = sorted(versions(root, name))
    if not available:
        names = ", ".join(models(root)) or "none"
        raise BundleNotFound(f"there is no model {name!r} in {root} (models there: {names})")
    if version is not None and version not in available:
        listed = ", ".join(map(str, available))
        raise BundleNotFound(f"model {name!r} has no version {version} (versions there: {listed})")
    return bundle.read(root / name / str(available[-1] if version is None else version))


@contextmanager
def staging(root: Path, name: str) -> Iterator[Path]:
    """Make a hidden folder to write a bundle into, on the repository's own file system; it is removed after the block.

    Raises:
        UsageError: the name cannot name a model.
        BundleError: the repository cannot be written to.
    """
    check_name(name)
    parent = root / name
    created = [folder for folder in (parent, root) if not folder.exists()]
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
        for new in created:
            if new.is_dir() and not any(new.iterdir()):
                new.rmdir()


def publish(staged: Path) -> Path:
    """Publish a staged bundle as the next free version, in one atomic step.

    Args:
        staged: a folder from `staging` that holds a whole bundle.

    Returns:
        The folder of the new version.

    Raises:
        BundleError: the folder does not hold a bundle, or the disk is full.
    """
    bundle.read(staged)
    try:
        for path in staged.rglob("*"):
            if path.is_file():
                sync(path)
        sync(staged)
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
                continue  # another process has just published this number: take the next one
            sync(target.parent)
            return target
    except OSError as error:
        raise BundleError(f"cannot publish to {staged.parent}: {error.strerror}") from None


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
