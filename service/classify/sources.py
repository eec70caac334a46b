"""Where images are: a folder, a manifest that lists them, or object storage; listed one by one, read by name."""

from __future__ import annotations

import csv
import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from contract import files, formats
from contract.errors import EmptyImage, ImageTooLarge
from contract.session import first_line
from service.classify.errors import JobError

UNKNOWN: Final = -1
"""The size of an image that the listing does not tell."""
_COLUMNS: Final = ("file", "path", "image", "filename", "url")
"""Columns of a manifest that may name the image; the first that is there counts."""
_TAGS: Final = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "updated", "created")
"""Under which names file systems tell of an object what changes with its content."""


@dataclass(frozen=True)
class Entry:
    """An image of a source.

    Attributes:
        name: by which it is read, and under which it is in the results.
        size: bytes; `UNKNOWN` where the listing does not tell.
        tag: what changes when its content does, as far as the listing tells.
    """

    name: str
    size: int
    tag: str


class Source(Protocol):
    """Where images are."""

    @property
    def where(self) -> str:
        """The absolute path or the address; the same again when a job goes on."""

    def entries(self) -> Iterator[Entry]:
        """List the images, in any order, one by one."""

    def read(self, entries: Sequence[tuple[str, int]]) -> list[bytes | Exception]:
        """Read images by name and size; in place of one that cannot be read, the reason.

        Raises:
            OSError: the source itself cannot be reached, which says nothing about the images.
        """


def find(where: str) -> Source:
    """A source by what a user calls it.

    Raises:
        JobError: there is nothing there, or it is neither a folder nor a manifest nor an address.
    """
    if "://" in where:
        return Remote(where)
    path = Path(where)
    if path.is_dir():
        return Folder(path)
    if path.suffix.lower() in (".txt", ".lst", ".csv") and path.is_file():
        return Manifest(path)
    if path.is_file():
        raise JobError(f"{where} is neither a folder nor a manifest: a manifest is a .txt (one image a line) or a .csv")
    raise JobError(f"there is nothing at {where!r}: give a folder, a manifest (.txt or .csv), or an address (s3://...)")


class Folder:
    """The images below a folder, by their path in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.where = str(folder.resolve())

    def entries(self) -> Iterator[Entry]:
        """List the images: what is one by its name or its first bytes. Hidden files and folders are left out."""
        return self._below(str(self._folder), "", ())

    def read(self, entries: Sequence[tuple[str, int]]) -> list[bytes | Exception]:
        """As `Source.read`."""
        return [_read(self._folder / os.fsdecode(os.fsencode(name))) for name, _ in entries]

    def _below(self, folder: str, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[Entry]:
        """What is below a folder; `prefix` is its path in the source. Text, not `Path`s: there may be millions."""
        try:
            status = os.stat(folder)
            listing = os.scandir(folder)
        except OSError as error:
            raise JobError(f"{folder} cannot be listed: {(error.strerror or str(error)).lower()}") from None
        identity = status.st_dev, status.st_ino
        if identity in above:  # a link to a folder that contains it
            listing.close()
            return
        with listing:
            for entry in listing:
                if files.is_left_out(entry.name):
                    continue
                if entry.is_dir():
                    yield from self._below(entry.path, f"{prefix}{entry.name}/", (*above, identity))
                elif _is_image(entry):
                    yield Entry(f"{prefix}{entry.name}", *_stated(entry))


class Manifest:
    """The images that a file lists, by what it calls them: paths from its own folder, absolute ones, or addresses."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.where = str(path.resolve())
        self._remotes: dict[str, Remote] = {}

    def entries(self) -> Iterator[Entry]:
        """List the images, each as often as it is there. Blank lines are left out."""
        try:
            with self._path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                names = self._of_table(file) if self._path.suffix.lower() == ".csv" else (line.strip() for line in file)
                for name in names:
                    if "\0" in name:
                        raise JobError(f"{self._path} is no manifest: it has a null byte")
                    if name:
                        yield Entry(name, *self._stated(name))
        except csv.Error as error:
            raise JobError(f"{self._path} is no table: {error}") from None

    def read(self, entries: Sequence[tuple[str, int]]) -> list[bytes | Exception]:
        """As `Source.read`."""
        contents: dict[int, bytes | Exception] = {}
        for protocol, members in itertools.groupby(
            sorted(enumerate(entries), key=lambda item: _protocol(item[1][0])), lambda item: _protocol(item[1][0])
        ):
            places, these = zip(*members, strict=True)
            if protocol:
                remote = self._remotes.setdefault(protocol, Remote(these[0][0]))
                contents.update(zip(places, remote.read(these), strict=True))
            else:
                contents.update(
                    (place, _read(self._path.parent / name)) for place, (name, _) in zip(places, these, strict=True)
                )
        return [contents[place] for place in range(len(entries))]

    def _of_table(self, file: Any) -> Iterator[str]:
        rows = csv.DictReader(file)
        column = next((name for name in _COLUMNS if name in (rows.fieldnames or ())), None)
        if column is None:
            raise JobError(f"{self._path} has no column of images: name one of its columns {', '.join(_COLUMNS)}")
        return ((row[column] or "").strip() for row in rows)

    def _stated(self, name: str) -> tuple[int, str]:
        if _protocol(name):
            return UNKNOWN, ""
        try:
            return _size_and_time(self._path.parent / name)
        except (OSError, ValueError):  # which its row will say
            return UNKNOWN, "absent"


class Remote:
    """The images below an address that fsspec knows, such as s3://bucket/folder, by their own addresses."""

    def __init__(self, address: str) -> None:
        import fsspec

        self._address = self.where = address.rstrip("/")
        self._protocol = _protocol(address)
        try:
            self._system, self._root = fsspec.url_to_fs(self._address, use_listings_cache=False)
        except ImportError as error:
            raise JobError(f"{address} needs another package: {first_line(error)}") from None
        except Exception as error:  # each file system raises its own
            raise JobError(f"{address} cannot be used: {first_line(error)}") from None

    def entries(self) -> Iterator[Entry]:
        """List the images, by the endings of their names. Hidden ones are left out."""
        try:
            for name, size, tag in self._of_s3() if self._protocol in ("s3", "s3a") else self._of_any():
                parts = name[len(self._root) :].strip("/").split("/")
                if formats.is_image(name, b"") and not any(map(files.is_left_out, parts)):
                    yield Entry(str(self._system.unstrip_protocol(name)), size, tag)
        except Exception as error:  # as above
            if isinstance(error, JobError):
                raise
            raise JobError(f"{self._address} cannot be listed: {first_line(error)}") from None

    def read(self, entries: Sequence[tuple[str, int]]) -> list[bytes | Exception]:
        """As `Source.read`; all at once."""
        contents: list[bytes | Exception | None] = [_refused(size) for _, size in entries]
        wanted = [place for place, refusal in enumerate(contents) if refusal is None]
        paths = [entries[place][0] for place in wanted]
        answers = self._system.cat_ranges(paths, [0] * len(paths), [files.LARGEST + 1] * len(paths), on_error="return")
        for place, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError | PermissionError):
                raise OSError(f"{entries[place][0]} cannot be read: {first_line(answer)}")
            is_large = isinstance(answer, bytes) and len(answer) > files.LARGEST
            contents[place] = _refused(len(answer)) if is_large else answer
        return [value for value in contents if value is not None]

    def _of_s3(self) -> Iterator[tuple[str, int, str]]:
        """A page at a time: fsspec's own walk would hold a whole folder."""
        bucket, _, prefix = self._root.partition("/")
        words: dict[str, Any] = {"Bucket": bucket, "Prefix": f"{prefix}/" if prefix else ""}
        while True:
            page = self._system.call_s3("list_objects_v2", **words)
            for item in page.get("Contents", ()):
                yield f"{bucket}/{item['Key']}", int(item["Size"]), str(item["ETag"])
            if not page.get("IsTruncated"):
                return
            words["ContinuationToken"] = page["NextContinuationToken"]

    def _of_any(self) -> Iterator[tuple[str, int, str]]:
        if not self._system.exists(self._root):
            raise JobError(f"there is nothing at {self._address}")
        for _, _, inside in self._system.walk(self._root, detail=True):
            for info in inside.values():
                tag = next((str(info[key]) for key in _TAGS if info.get(key)), "")
                yield str(info["name"]), int(info.get("size") or UNKNOWN), tag


def _is_image(entry: os.DirEntry[str]) -> bool:
    """Whether a file is an image by its name or its first bytes; a pipe or a device is none."""
    try:
        if not stat.S_ISREG(entry.stat().st_mode):
            return False
    except OSError:  # a link to nowhere: its row says so, if its name does
        return formats.is_image(entry.name, b"")
    return formats.is_image(entry.name, b"") or formats.is_image(entry.name, files.head(Path(entry.path)))


def _stated(entry: os.DirEntry[str]) -> tuple[int, str]:
    try:
        status = entry.stat()
    except OSError:
        return UNKNOWN, "absent"
    return status.st_size, str(status.st_mtime_ns)


def _protocol(name: str) -> str:
    return name.split("://", 1)[0] if "://" in name else ""


def _refused(size: int) -> Exception | None:
    if size == 0:
        return EmptyImage("the image is empty (0 bytes)")
    if size > files.LARGEST:
        return ImageTooLarge(f"{size:,} bytes are more than the {files.LARGEST:,} that an image may have")
    return None


def _read(path: Path) -> bytes | Exception:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would wait for ever
            return OSError("it is not a file")
        return files.contents(path)
    except (OSError, ImageTooLarge, ValueError) as error:
        return error


def _size_and_time(path: Path) -> tuple[int, str]:
    status = path.stat()
    return status.st_size, str(status.st_mtime_ns)
