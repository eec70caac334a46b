"""What was decoded before: plain arrays in a folder, which takes its place when all of it is there.

A folder is keyed by the images' checksum and the decoding's rules; what is absent or damaged is decoded anew. Beside
them is what an archive holds, keyed by the archive's own checksum, so that it need not be unpacked to know that.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from training.data import memory
from training.data.problems import Problem
from training.data.split import Decoded, Facts, Split

FORMAT: Final = 6
_NOTES: Final = "notes.json"
_FIRST_COPIES: Final = "train.first_copies"
_STAGED: Final = "staged-"
_FORGOTTEN: Final = 86400.0
"""Seconds after which what a killed process left half-written is removed."""


def home() -> Path:
    """Where decoded images are kept: `KERNELSCOPE_CACHE`, else `kernelscope` in the user's cache folder."""
    chosen = os.environ.get("KERNELSCOPE_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kernelscope"


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A folder beside that one, which takes its place when the block ends well, and is gone when it does not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f"{_STAGED}*"):
        if time.time() - left.stat().st_mtime > _FORGOTTEN:
            shutil.rmtree(left, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix=_STAGED, dir=folder.parent))
    try:
        yield new
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


@dataclass(frozen=True)
class Contents:
    """What an archive holds: the key and the size of its images, and what was understood and left out."""

    key: str
    own_size: tuple[int, int]
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]


def images_folder(key: str, size: tuple[int, int], resize_mode: str) -> Path:
    """Where images are kept that were brought to a height and width so."""
    return home() / f"{key[:32]}-{size[0]}x{size[1]}-{resize_mode}-{FORMAT}"


def write_notes(folder: Path, decoded: Decoded, size: tuple[int, int]) -> None:
    """Write all but the pixels of what was decoded to a height and width."""
    for name, split in decoded.splits.items():
        split.targets.tofile(folder / f"{name}.targets")
        (folder / f"{name}.names.json").write_text(json.dumps(split.names), encoding="utf-8")
    if decoded.first_copies is not None:
        decoded.first_copies.tofile(folder / _FIRST_COPIES)
    notes = {
        "labels": decoded.labels,
        "splits": list(decoded.splits),
        "size": size,
        "checksum": decoded.checksum,
        "problems": [asdict(problem) for problem in decoded.problems],
        "facts": asdict(decoded.facts) if decoded.facts else None,
        "has_copies": decoded.first_copies is not None,
    }
    (folder / _NOTES).write_text(json.dumps(notes), encoding="utf-8")


def read(folder: Path) -> Decoded | None:
    """What is in a folder; None where nothing is, or where it is damaged. More than memory holds stays on disk."""
    try:
        notes = json.loads((folder / _NOTES).read_text(encoding="utf-8"))
        splits = {}
        whole = sum((folder / f"{name}.pixels").stat().st_size for name in notes["splits"])
        for name in notes["splits"]:
            targets = np.fromfile(folder / f"{name}.targets", np.int64)
            shape = (len(targets), *notes["size"], 3)
            mapped = np.memmap(folder / f"{name}.pixels", np.uint8, "r", shape=shape)
            if mapped.nbytes != (folder / f"{name}.pixels").stat().st_size:
                return None
            names = tuple(json.loads((folder / f"{name}.names.json").read_text(encoding="utf-8")))
            splits[name] = Split(mapped if whole > memory.limit() else np.array(mapped), targets, names)
        facts = notes["facts"]
        return Decoded(
            labels=tuple(notes["labels"]),
            splits=splits,
            checksum=notes["checksum"],
            problems=_problems(notes["problems"]),
            facts=facts and Facts(facts["formats"], *(tuple(facts[key]) for key in ("smallest", "median", "largest"))),
            first_copies=np.fromfile(folder / _FIRST_COPIES, np.int64) if notes["has_copies"] else None,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent, or damaged: decoded anew and written over


def write(folder: Path, decoded: Decoded) -> None:
    """Write what was decoded, or nothing where the disk does not take it."""
    size = next(iter(decoded.splits.values())).images.shape[1:3]
    try:
        with staged(folder) as new:
            for name, split in decoded.splits.items():
                split.images.tofile(new / f"{name}.pixels")
            write_notes(new, decoded, (size[0], size[1]))
    except OSError:
        return  # the cache only saves time: on a full or read-only disk the next run decodes again


def read_contents(file_checksum: str) -> Contents | None:
    """What the archive of that checksum holds; None where that is not known."""
    try:
        contents = json.loads(_contents(file_checksum).read_text(encoding="utf-8"))
        height, width = contents["own_size"]
        return Contents(contents["key"], (height, width), tuple(contents["notes"]), _problems(contents["problems"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_contents(file_checksum: str, contents: Contents) -> None:
    """Remember what an archive holds, where the disk takes it."""
    path = _contents(file_checksum)
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=_STAGED, delete=False) as file:
            json.dump(asdict(contents), file)
        os.replace(file.name, path)
    except OSError:
        return  # the archive is read again the next time


def _contents(file_checksum: str) -> Path:
    return home() / f"{file_checksum[:32]}-contents-{FORMAT}.json"


def _problems(rows: list[dict[str, Any]]) -> tuple[Problem, ...]:
    return tuple(Problem(row["kind"], row["message"], tuple(row["files"])) for row in rows)
