"""A manifest: which files a version of a model has, with their sizes and SHA-256; `manifest.json` beside them.

It is written last, so that a version in an object store is whole once its manifest is there. Its own SHA-256 is the
version's digest.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from contract import bundle, typed_json
from contract.errors import BundleError
from contract.typed_json import Range

NAME: Final = "manifest.json"
FORMAT: Final = 1
LARGEST: Final = 2**20
"""Bytes of a manifest."""
_PATH: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,99}(/[A-Za-z0-9_][A-Za-z0-9._ -]{0,99}){0,7}")
"""Of a file: never above its folder, never hidden."""
_HASH: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class File:
    """A file of a version.

    Attributes:
        size: bytes.
        sha256: of its content, in hexadecimal.
    """

    size: Annotated[int, Range(0)]
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a version consists of.

    Attributes:
        format: of this file.
        model: the model's name.
        version: its number.
        files: by path below the version's folder.
    """

    format: int
    model: str
    version: Annotated[int, Range(1)]
    files: dict[str, File]

    def to_json(self) -> bytes:
        """The file's content, which is the same for the same files."""
        return json.dumps(typed_json.encode(self), indent=2, sort_keys=True).encode() + b"\n"


def make(folder: Path, model: str, version: int) -> Manifest:
    """The manifest of what is in a folder; hidden files and a manifest that is there are left out.

    Raises:
        BundleError: a file has a name that cannot be in a manifest.
        OSError: a file cannot be read.
    """
    files: dict[str, File] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or name == NAME or any(part.startswith(".") for part in name.split("/")):
            continue
        if not _PATH.fullmatch(name):
            raise BundleError(f"{path} cannot be in a manifest: names are of letters, digits, '.', '-', '_' and spaces")
        files[name] = _describe(path)
    return Manifest(FORMAT, model, version, files)


def parse(data: bytes, where: str) -> Manifest:
    """Read a manifest.

    Args:
        data: the file's content.
        where: what error messages call it.

    Raises:
        BundleError: it is no manifest that this version reads.
    """
    try:
        raw = typed_json.loads(data.decode())
        if isinstance(raw, dict) and raw.get("format") != FORMAT:
            raise BundleError(f"{where} is of format {raw.get('format')!r}; this version reads {FORMAT}")
        manifest = typed_json.decode(Manifest, raw, refuse_unknown=True)
    except ValueError as error:
        raise BundleError(f"{where} is no manifest: {error}") from None
    for name, file in manifest.files.items():
        if not _PATH.fullmatch(name) or name == NAME:
            raise BundleError(f"{where} names the file {name!r}, which no version has")
        if not _HASH.fullmatch(file.sha256):
            raise BundleError(f"{where} has no SHA-256 of {name}")
    for name in (bundle.MODEL, bundle.CARD):
        if name not in manifest.files:
            raise BundleError(f"{where} does not name {name}")
    return manifest


def digest(data: bytes) -> str:
    """A version's digest: SHA-256 of its manifest, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def check(folder: Path, manifest: Manifest) -> None:
    """Raise `BundleError` where a file of a version is missing or is not what its manifest says."""
    for name, expected in manifest.files.items():
        path = folder / name
        try:
            there = _describe(path)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise BundleError(f"{name} cannot be checked against {NAME}: {reason}") from None
        if there.size != expected.size:
            raise BundleError(f"{name} has {there.size:,} bytes, {NAME} says {expected.size:,}: it is damaged")
        if there.sha256 != expected.sha256:
            raise BundleError(
                f"{name} has the SHA-256 {there.sha256[:12]}..., {NAME} says {expected.sha256[:12]}...: it is damaged"
            )


def check_if_there(folder: Path) -> None:
    """As `check`, with the manifest in the folder, where there is one."""
    path = folder / NAME
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        return
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(data) > LARGEST:
        raise BundleError(f"{path} is larger than {LARGEST // 2**20} MiB: it is no manifest")
    try:
        check(folder, parse(data, NAME))
    except BundleError as error:
        raise BundleError(f"{folder}: {error}") from None


def _describe(path: Path) -> File:
    with path.open("rb") as file:
        size = path.stat().st_size
        return File(size, hashlib.file_digest(file, "sha256").hexdigest())
