"""The models folder, brought in line with an object store: what is new is downloaded, checked, put in place at once.

Nothing is removed because the store does not list it: a store that is unreachable or empty never ends a service.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from contract import bundle, manifest, repository
from contract.errors import BundleError
from contract.manifest import Manifest
from service.storage import placement
from service.storage.store import Store

_LOCK: Final = ".pull.lock"
_LONGEST_PAUSE: Final = 64
"""Looks between two downloads of a version that is damaged in the store."""


@dataclass(frozen=True)
class Changes:
    """What a round has done.

    Attributes:
        placed: versions that are new in the folder, as `<name>/<version>`.
        removed: versions that are older than those that are kept.
        refused: why versions of the store are not in the folder.
    """

    placed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


@dataclass
class _Damaged:
    """A version that was not what its manifest says: why, and how many looks go by until it is fetched again."""

    digest: str
    reason: str
    pause: int
    looks: int


class Puller:
    """Fills a models folder from a store.

    Args:
        store: where from.
        root: the models folder; made where it is not there.
        keep: how many versions of each model, the newest that are whole; 0 for all.
    """

    def __init__(self, store: Store, root: Path, keep: int) -> None:
        self._store, self._root, self._keep = store, root, keep
        self._checked: dict[str, str] = {}
        """By version, the digest of the files that this process has seen to be whole."""
        self._damaged: dict[str, _Damaged] = {}

    def round(self) -> Changes:
        """Look once. Several processes may share the folder: they take turns.

        Raises:
            StoreError: the store cannot be reached; the folder stays as it is.
            OSError: the folder cannot be written.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        with _turn(self._root / _LOCK):
            placement.clean(self._root)
            changes = Changes()
            for name, numbers in sorted(self._store.versions().items()):
                self._pull_model(name, numbers, changes)
            repository.note_refused(self._root, changes.refused)
            return changes

    def _pull_model(self, name: str, numbers: list[int], changes: Changes) -> None:
        whole: list[int] = []
        for number in numbers:
            if self._keep and len(whole) == self._keep:
                break
            path = f"{name}/{number}"
            try:
                if self._pull(name, number):
                    changes.placed.append(path)
                whole.append(number)
            except BundleError as error:
                changes.refused[path] = str(error)
                if placement.digest(self._root / path):  # the files that were whole before
                    whole.append(number)
        if self._keep and len(whole) == self._keep:
            for number in placement.placed(self._root, name):
                if number < min(whole):
                    (self._root / name / str(number)).unlink()
                    changes.removed.append(f"{name}/{number}")

    def _pull(self, name: str, number: int) -> bool:
        """Bring one version in line; whether it had to be. Raises `BundleError` where it is refused."""
        path = f"{name}/{number}"
        data = self._store.read(f"{path}/{manifest.NAME}", manifest.LARGEST)
        if data is None:
            raise BundleError(f"there is no {manifest.NAME} in the store: `kernelscope push` writes it last")
        target, digest = self._root / path, manifest.digest(data)
        if self._is_there(target, path, digest):
            return False
        placement.check_free(target)
        expected = manifest.parse(data, manifest.NAME)
        if (expected.model, expected.version) != (name, number):
            raise BundleError(f"{manifest.NAME} is that of {expected.model}/{expected.version}")
        with placement.download(target.parent) as staged:
            self._download(path, digest, expected, staged)
            (staged / manifest.NAME).write_bytes(data)
            placement.place(staged, target)
        self._checked[path] = digest
        return True

    def _download(self, path: str, digest: str, expected: Manifest, staged: Path) -> None:
        """Fetch a version's files and check them; one that was damaged is not fetched at every look."""
        damaged = self._damaged.get(path)
        if damaged and damaged.digest == digest and damaged.looks > 0:
            damaged.looks -= 1
            raise BundleError(damaged.reason)
        try:
            for file, described in expected.files.items():
                local = staged / file
                local.parent.mkdir(parents=True, exist_ok=True)
                self._store.fetch(f"{path}/{file}", local, described.size)
            manifest.check(staged, expected)
            bundle.read(staged)
        except BundleError as error:
            pause = min(2 * damaged.pause, _LONGEST_PAUSE) if damaged and damaged.digest == digest else 1
            self._damaged[path] = _Damaged(digest, str(error), pause, pause)
            raise
        self._damaged.pop(path, None)

    def _is_there(self, target: Path, path: str, digest: str) -> bool:
        """Whether the folder has that version already; its files are read when this process sees it first."""
        if placement.digest(target) != digest:
            return False
        if self._checked.get(path) != digest:
            try:
                manifest.check_if_there(target)
            except BundleError:  # downloaded anew
                return False
            self._checked[path] = digest
        return True


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
