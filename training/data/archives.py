"""What is in a zip or a tar: links are followed inside of it, and names are read in the encoding that they are in."""

from __future__ import annotations

import errno
import lzma
import os
import posixpath
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Final

from contract import files, formats
from contract.errors import DataError, ImageTooLarge
from training.data import cache
from training.data.listing import Entry, Listing, is_known, kind
from training.data.problems import Problem, named

DAMAGED: Final = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    IndexError,
    NotImplementedError,
    UnicodeDecodeError,
)
"""What Python's own readers raise where an archive's bytes are not what they should be."""
_MOST_HOPS: Final = 20
_UTF_8: Final = 0x800
"""The flag of a zip's entry whose name is UTF-8 (APPNOTE 4.4.4, bit 11)."""
_UNICODE_PATH: Final = 0x7075
"""The extra field that holds an entry's name in UTF-8 (APPNOTE 4.6.9)."""


def reason(error: Exception) -> str:
    """An error's message in one line; where it has none, its type."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


@contextmanager
def unzipped(path: Path) -> Iterator[Listing]:
    """A zip's listing; raises `DataError` where it cannot be read, or holds a path that climbs out of it."""
    with ExitStack() as stack:
        with _damage_named(path):
            listing = _list_zip(stack.enter_context(zipfile.ZipFile(path)))
        yield listing


def _list_zip(archive: zipfile.ZipFile) -> Listing:
    entries, links, garbled = dict[str, Entry](), dict[str, str](), list[str]()
    for info in archive.infolist():
        name = _zip_name(info)
        if name is None:
            name = info.filename
            garbled.append(name)
        name = name.replace("\\", "/")
        _refuse_climbing(name)
        if name.endswith("/"):
            entries[name.rstrip("/")] = Entry(name.rstrip("/"), "folder")
        elif stat.S_ISLNK(info.external_attr >> 16):
            links[name] = _target(name, os.fsdecode(_from_zip(archive, info)))
        else:
            head = b"" if is_known(name) else _head_in_zip(archive, info)
            entries[name] = Entry(name, kind(name, head), partial(_from_zip, archive, info))
    listing = Listing(_with_links(entries, links))
    if garbled:
        text = (
            "names in the archive are neither UTF-8 nor marked with their encoding, and were read as code page 437: "
            f"{named(garbled)}; if they are garbled, pack it anew"
        )
        listing.problems.append(Problem("garbled_name", text, tuple(garbled)))
    return listing


def _zip_name(info: zipfile.ZipInfo) -> str | None:
    """An entry's name; None where nothing says its encoding and it is neither ASCII nor UTF-8."""
    if info.flag_bits & _UTF_8 or info.filename.isascii():
        return info.filename
    extra = info.extra
    while len(extra) >= 4:
        number, length = struct.unpack("<HH", extra[:4])
        if number == _UNICODE_PATH and length > 5:
            return extra[9 : 4 + length].decode("utf-8", "replace")
        extra = extra[4 + length :]
    try:
        return info.orig_filename.encode("cp437").decode("utf-8").partition("\0")[0]
    except UnicodeError:
        return None


def _head_in_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(info) as file:
            return file.read(formats.HEAD)
    except (RuntimeError, *DAMAGED):
        return b""  # it does not claim to be an image


def _from_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    _refuse_large(info.file_size)
    try:
        return archive.read(info)
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or of a kind that Python does not unpack
        raise OSError(errno.EINVAL, str(error)) from None
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:  # this entry alone
        raise OSError(errno.EIO, f"it is damaged in the archive ({reason(error)})") from None


@contextmanager
def untarred(path: Path) -> Iterator[Listing]:
    """A tar's listing, compressed or not; raises as `unzipped` does."""
    # A compressed tar can only be read forwards at a bearable speed: its files are laid down, in the archive's order.
    with ExitStack() as stack:
        with _damage_named(path):
            spool = stack.enter_context(_spool())
            listing = _list_tar(stack.enter_context(tarfile.open(path, tarinfo=_Member)), spool)
        yield listing


def _list_tar(tar: tarfile.TarFile, spool: IO[bytes]) -> Listing:
    entries, links = dict[str, Entry](), dict[str, str]()
    for member in tar:
        _refuse_climbing(member.name)
        name = posixpath.normpath(member.name)
        if member.isdir():
            entries[name] = Entry(name, "folder")
        elif member.islnk():
            links[name] = posixpath.normpath(member.linkname)
        elif member.issym():
            links[name] = _target(name, member.linkname)
        elif member.isfile():
            entries[name] = _laid_down(tar, member, name, spool)
    entries.pop(".", None)
    return Listing(_with_links(entries, links))


def _target(name: str, link: str) -> str:
    """Where a symbolic link in an archive leads."""
    return link if link.startswith("/") else posixpath.normpath(posixpath.join(posixpath.dirname(name), link))


def _laid_down(tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, spool: IO[bytes]) -> Entry:
    file = tar.extractfile(member)
    head = b"" if file is None or is_known(name) else file.read(formats.HEAD)
    its = kind(name, head)
    if file is None or its == "other" or member.size > files.LARGEST:
        return Entry(name, its, partial(_refuse_large, member.size))
    begin = spool.tell()
    spool.write(head)
    shutil.copyfileobj(file, spool)
    return Entry(name, its, partial(os.pread, spool.fileno(), member.size, begin))


class _Member(tarfile.TarInfo):
    """A tar's member; where its header is damaged, that is an error, and not, as by itself, the archive's end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> _Member:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the blocks that end an archive
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"it is cut short or damaged ({error})") from None


def _spool() -> IO[bytes]:
    """A file that is gone once it is closed; beside the cache, where there is room for images, if that can be."""
    folder = cache.home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(buffering=0, dir=folder)
    except OSError:
        return tempfile.TemporaryFile(buffering=0)


def _with_links(members: dict[str, Entry], links: dict[str, str]) -> list[Entry]:
    """Files and folders, and what links lead to under the links' own names."""
    entries = list(members.values())
    for name, link in links.items():
        target = link
        for _ in range(_MOST_HOPS):
            target = links.get(target, target)
        if target in members and members[target].kind != "folder":
            entries.append(replace(members[target], name=name))
        elif inside := [entry for entry in members.values() if entry.name.startswith(f"{target}/")]:
            entries.append(Entry(name, "folder"))
            entries.extend(replace(entry, name=name + entry.name[len(target) :]) for entry in inside)
        else:
            entries.append(Entry(name, kind(name, b""), partial(_lead_nowhere, target)))
    return entries


def _lead_nowhere(target: str) -> bytes:
    raise OSError(errno.ENOENT, f"it is a link to {target}, which is not in the archive")


def _refuse_large(size: int) -> bytes:
    if size > files.LARGEST:
        raise ImageTooLarge(f"{size:,} bytes are more than the {files.LARGEST:,} that an image may have")
    return b""


def _refuse_climbing(name: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if ".." in parts or name.startswith(("/", "\\")) or (parts and parts[0].endswith(":")):
        raise DataError(f"the archive holds {name!r}, a path that climbs out of it: it was not read; pack it anew")


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (*DAMAGED, OSError) as error:
        raise DataError(f"{path} cannot be read as an archive: {reason(error)}") from None
