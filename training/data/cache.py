"""What was decoded before: plain arrays in a folder, which takes its place when all of it is there.

A folder is keyed by the source's checksum and the decoding's rules; what is absent or damaged is decoded anew.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from training.data import memory
from training.data.split import Decoded, Split

FORMAT: Final = 4
_NOTES: Final = "notes.json"
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


def write_notes(folder: Path, decoded: Decoded, size: tuple[int, int], targets: dict[str, list[int]]) -> None:
    """Write all but the pixels: targets by split, class names, what was skipped, height and width."""
    for name, numbers in targets.items():
        np.array(numbers, np.int64).tofile(folder / f"{name}.labels")
    notes = {"labels": decoded.labels, "splits": list(targets), "skipped": decoded.skipped, "size": size}
    (folder / _NOTES).write_text(json.dumps(notes), encoding="utf-8")


def read(folder: Path) -> Decoded | None:
    """What is in a folder; None where nothing is, or where it is damaged. More than memory holds stays on disk."""
    try:
        notes = json.loads((folder / _NOTES).read_text(encoding="utf-8"))
        splits = {}
        whole = sum((folder / f"{name}.pixels").stat().st_size for name in notes["splits"])
        for name in notes["splits"]:
            targets = np.fromfile(folder / f"{name}.labels", np.int64)
            shape = (len(targets), *notes["size"], 3)
            mapped = np.memmap(folder / f"{name}.pixels", np.uint8, "r", shape=shape)
            if mapped.nbytes != (folder / f"{name}.pixels").stat().st_size:
                return None
            splits[name] = Split(mapped if whole > memory.limit() else np.array(mapped), targets)
        return Decoded(tuple(notes["labels"]), splits, tuple(notes["skipped"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent, or damaged: decoded anew and written over


def write(folder: Path, decoded: Decoded) -> None:
    """Write what was decoded, or nothing where the disk does not take it."""
    size = next(iter(decoded.splits.values())).images.shape[1:3]
    try:
        with staged(folder) as new:
            for name, split in decoded.splits.items():
                split.images.tofile(new / f"{name}.pixels")
            write_notes(new, decoded, size, {name: split.targets.tolist() for name, split in decoded.splits.items()})
    except OSError:
        return  # the cache only saves time: on a full or read-only disk the next run decodes again
