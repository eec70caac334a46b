from __future__ import annotations

import io
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.images import image
from training.data import sources
from training.data.listing import Listing

RED = image("red")


def renamed(path: Path, name: bytes, extra: bytes = b"") -> Path:
    """A zip with an image of that name, whose encoding nothing marks."""
    info = zipfile.ZipInfo("x" * len(name))
    info.extra = extra
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, RED)
    path.write_bytes(path.read_bytes().replace(b"x" * len(name), name))
    return path


def names(path: Path, kind: str = "image") -> list[str]:
    with sources.opened(path) as listing:
        return listing.names(kind)


def contents(listing: Listing) -> dict[str, bytes]:
    return {entry.name: entry.read() for entry in listing.entries if entry.kind == "image"}


def test_names_in_a_zip_are_utf_8_where_they_can_be(tmp_path: Path) -> None:
    path = renamed(tmp_path / "a.zip", "café/1.png".encode())
    with sources.opened(path) as listing:
        assert contents(listing) == {"café/1.png": RED}
        assert listing.problems == []


def test_names_in_a_zip_may_be_in_their_extra_field(tmp_path: Path) -> None:
    text = "猫/1.png".encode()
    extra = struct.pack("<HHBI", 0x7075, 5 + len(text), 1, 0) + text
    assert names(renamed(tmp_path / "a.zip", "猫".encode("gbk") + b"/1.png", extra)) == ["猫/1.png"]


def test_other_names_in_a_zip_are_told(tmp_path: Path) -> None:
    with sources.opened(renamed(tmp_path / "a.zip", "狗".encode("gbk") + b"/1.png")) as listing:
        assert [problem.kind for problem in listing.problems] == ["garbled_name"]
        assert len(contents(listing)) == 1


@pytest.mark.parametrize("kind", ["", "gz", "xz"])
def test_links_in_a_tar_are_followed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.tar{kind and '.'}{kind}"
    with tarfile.open(path, f"w:{kind}") as archive:  # type: ignore[call-overload]
        links = [
            ("dog/late.png", tarfile.SYMTYPE, "../cat/0.png"),
            ("cat/hard.png", tarfile.LNKTYPE, "cat/0.png"),
            ("cat/chain.png", tarfile.LNKTYPE, "cat/hard.png"),
            ("fox", tarfile.SYMTYPE, "cat"),
            ("cat/gone.png", tarfile.SYMTYPE, "nowhere.png"),
            ("cat/out.png", tarfile.SYMTYPE, "/etc/passwd"),
            ("cat/loop.png", tarfile.SYMTYPE, "loop.png"),
        ]
        for name, is_kind, target in links[:1]:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = is_kind, target
            archive.addfile(link)
        info = tarfile.TarInfo("cat/0.png")
        info.size = len(RED)
        archive.addfile(info, io.BytesIO(RED))
        for name, is_kind, target in links[1:]:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = is_kind, target
            archive.addfile(link)
    with sources.opened(path) as listing:
        read = {}
        for entry in listing.entries:
            if entry.kind == "image":
                try:
                    read[entry.name] = entry.read()
                except OSError as error:
                    read[entry.name] = str(error.strerror).encode()
    for name in ("cat/0.png", "cat/hard.png", "cat/chain.png", "dog/late.png", "fox/0.png"):
        assert read[name] == RED
    for name in ("cat/gone.png", "cat/out.png", "cat/loop.png"):
        assert b"not in the archive" in read[name]


def test_links_in_a_zip_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("dog/1.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "../cat/1.png")
        archive.writestr("cat/1.png", RED)
    with sources.opened(path) as listing:
        assert contents(listing) == {"cat/1.png": RED, "dog/1.png": RED}


def test_one_damaged_entry_is_unreadable_and_the_others_are_not(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(3):
            archive.writestr(f"cat/{number}.png", RED)
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 6] ^= 1  # of the first; its checksum does not hold any more
    path.write_bytes(data)
    with sources.opened(path) as listing:
        first, *others = listing.entries
        with pytest.raises(OSError, match="damaged in the archive"):
            first.read()
        assert [entry.read() for entry in others] == [RED, RED]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_images_are_told_by_their_first_bytes(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("photo.jpg?w=640", "photo", "photo.jpg ", "a.AVIF", "b.jfif", "c.heic"):
        (folder / name).write_bytes(RED)
    for name in ("notes", "labels.csv", "read.me"):
        (folder / name).write_text("BM is how bitmaps begin")
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in folder.iterdir():
                archive.write(file, file.name)
    else:
        with tarfile.open(path, "w") as tar:
            tar.add(folder, ".")
    found = sorted(os.listdir(folder))
    for where in (folder, path):
        assert sorted(names(where)) == [name for name in found if name not in {"notes", "labels.csv", "read.me"}]
        assert names(where, "table") == ["labels.csv"]
        with sources.opened(where) as listing:
            assert set(contents(listing).values()) == {RED}
