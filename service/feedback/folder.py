"""The folder that samples are kept in, within its bounds of bytes and age. Everything here may block.

`<model>/unsure/<class>/*.png` and `<model>/disputed/<class>/*.png`: either is a folder of labelled images, as
`kernelscope inspect` and `train` read it, once a person has moved what is in the wrong class. Files with other names
than samples have are left alone.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from service.feedback.sample import NAME, Kind, Sample, StoreFull, folder_name, new_name


@dataclass
class FeedbackFolder:
    """Keeps samples.

    Attributes:
        root: the folder; it is made by `open` alone, so that a volume that is away is not written beside.
        most: bytes that it may hold.
        days: how old a sample may become.
        held: bytes that the samples in it take, as far as is known.
    """

    root: Path
    most: int
    days: float
    held: int = 0

    def open(self) -> None:
        """Make the folder where it is not there, and see what it holds. Raises `OSError`."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.expire()

    def keep(self, sample: Sample) -> None:
        """Write a sample, whole or not at all.

        Raises:
            StoreFull: there is no room for it; older ones make room once they are too old.
            OSError: it cannot be written.
        """
        data = sample.png()
        if self.held + len(data) > self.most:
            raise StoreFull
        folder = self.root
        for name in (sample.model, sample.kind, folder_name(sample.folder)):
            folder /= name
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
        path = folder / new_name()
        part = path.with_name(f"{path.name}.part")
        try:
            part.write_bytes(data)
            part.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        self.held += len(data)

    def expire(self) -> None:
        """Remove samples that are too old, and count what is left. Raises `OSError`."""
        until, held = time.time() - self.days * 86400, 0
        for entry in self._samples():
            with contextlib.suppress(FileNotFoundError):  # a person has moved it meanwhile
                status = entry.stat(follow_symlinks=False)
                if status.st_mtime < until:
                    os.unlink(entry.path)
                else:
                    held += status.st_size
        self.held = held

    def _samples(self) -> Iterator[os.DirEntry[str]]:
        for model in _folders(self.root):
            for kind in _folders(model.path):
                if kind.name in get_args(Kind):
                    for label in _folders(kind.path):
                        with os.scandir(label.path) as entries:
                            yield from (entry for entry in entries if NAME.fullmatch(entry.name.removesuffix(".part")))


def _folders(path: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
