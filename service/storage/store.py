"""An object store, at any address that fsspec knows: `<address>/<name>/<version>/` holds a version's files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from contract import repository
from contract.errors import BundleError
from contract.session import first_line
from service.storage.errors import StoreError

_BLOCK: Final = 2**20
_AHEAD: Final = 2**23
"""Bytes that a file system fetches at once."""


class Store:
    """Models in an object store.

    Args:
        address: such as `s3://bucket/models` or `file:///srv/models`.

    Raises:
        StoreError: it is no address, or a package is missing that it needs.
    """

    def __init__(self, address: str) -> None:
        import fsspec

        self.address = address.rstrip("/")
        if "://" not in self.address:
            raise StoreError(f"{address!r} is no address: give one such as s3://bucket/models or file:///srv/models")
        try:
            self._system, root = fsspec.url_to_fs(self.address, use_listings_cache=False)
        except ImportError as error:
            raise StoreError(f"{address} needs another package: {first_line(error)}") from None
        except Exception as error:  # each file system raises its own
            raise StoreError(f"{address} cannot be used: {first_line(error)}") from None
        self._root = str(root).rstrip("/")

    def versions(self) -> dict[str, list[int]]:
        """The versions of each model, newest first, whether they are whole or not.

        Raises:
            StoreError: there is nothing, or it cannot be listed.
        """
        versions = {}
        for name in self._folders(""):
            if repository.is_name(name):
                numbers = [int(entry) for entry in self._folders(name) if repository.is_number(entry)]
                if numbers:
                    versions[name] = sorted(numbers, reverse=True)
        return versions

    def read(self, path: str, limit: int) -> bytes | None:
        """A small file; None where it is not there.

        Raises:
            BundleError: it is larger than `limit` bytes.
            StoreError: it cannot be read.
        """
        with self._failing(path, "read"):
            try:
                with self._system.open(self._at(path), "rb", block_size=_AHEAD) as file:
                    data = bytes(file.read(limit + 1))
            except FileNotFoundError:
                return None
        if len(data) > limit:
            raise BundleError(f"{path.rpartition('/')[2]} is larger than {limit:,} bytes")
        return data

    def fetch(self, path: str, target: Path, size: int) -> None:
        """Download a file of `size` bytes; one byte more is fetched at most, which is enough to tell that it is wrong.

        Raises:
            BundleError: it is not there.
            StoreError: it cannot be read.
            OSError: the target cannot be written.
        """
        with target.open("wb") as written:
            for block in self._blocks(path, size + 1):
                written.write(block)

    def put(self, source: Path, path: str) -> None:
        """Upload a file. Raises `StoreError`."""
        with self._failing(path, "written"):
            self._make_folder(path)
            self._system.put_file(str(source), self._at(path))

    def write(self, path: str, data: bytes) -> None:
        """Upload a small file. Raises `StoreError`."""
        with self._failing(path, "written"):
            self._make_folder(path)
            self._system.pipe_file(self._at(path), data)

    def url(self, path: str) -> str:
        """The address of a file."""
        return f"{self.address}/{path}"

    def _blocks(self, path: str, most: int) -> Iterator[bytes]:
        with self._failing(path, "read"):
            try:
                file = self._system.open(self._at(path), "rb", block_size=_AHEAD)
            except FileNotFoundError:
                raise BundleError(f"{path.rpartition('/')[2]} is not in the store") from None
        with file:
            while most > 0:
                with self._failing(path, "read"):
                    block = file.read(min(_BLOCK, most))
                if not block:
                    return
                most -= len(block)
                yield block

    def _folders(self, path: str) -> list[str]:
        with self._failing(path, "listed"):
            try:
                entries = self._system.ls(self._at(path), detail=True)
            except FileNotFoundError:
                if path:  # it has vanished since the folder above was listed
                    return []
                raise StoreError(f"there is nothing at {self.address}") from None
        return [
            str(entry["name"]).rstrip("/").rpartition("/")[2] for entry in entries if entry.get("type") == "directory"
        ]

    def _make_folder(self, path: str) -> None:
        if "file" in (protocols := self._system.protocol) or protocols == "memory":
            self._system.makedirs(self._at(path).rpartition("/")[0], exist_ok=True)

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    @contextmanager
    def _failing(self, path: str, done: str) -> Iterator[None]:
        """What a file system raises, which is of any kind, as a `StoreError`."""
        try:
            yield
        except (StoreError, BundleError):
            raise
        except Exception as error:  # each file system raises its own
            raise StoreError(f"{self.url(path).rstrip('/')} cannot be {done}: {first_line(error)}") from None
