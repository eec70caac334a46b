"""Samples in an object store, such as s3://bucket/folder, by fsspec. Everything here may block.

The layout is that of `folder`. A sample is one object, written whole or not at all; its age is told by the date in its
name, for stores do not agree on how they tell it.
"""

from __future__ import annotations

import datetime
import posixpath
from dataclasses import dataclass
from typing import Any, Final, get_args

from contract.errors import UsageError
from service.feedback.sample import NAME, Kind, Sample, StoreFull, folder_name, new_name

_EXTRA: Final = "pip install 'kernelscope[classify]' brings fsspec and s3fs"


@dataclass
class FeedbackBucket:
    """Keeps samples, as `FeedbackFolder` does.

    Attributes:
        root: where, with its protocol.
        most: bytes that it may hold.
        days: how old a sample may become.
        held: bytes that the samples in it take, as far as is known.
    """

    root: str
    most: int
    days: float
    held: int = 0

    def __post_init__(self) -> None:
        try:
            import fsspec

            fsspec.get_filesystem_class(self.root.partition("://")[0])
        except (ImportError, ValueError) as error:
            raise UsageError(f"KERNELSCOPE_FEEDBACK is {self.root!r}: {error} ({_EXTRA})") from None
        self._system: Any = None

    def open(self) -> None:
        """Reach the store, and see what it holds. Raises what the store raises."""
        self.expire()

    def keep(self, sample: Sample) -> None:
        """Write a sample. Raises `StoreFull`, and what the store raises."""
        data = sample.png()
        if self.held + len(data) > self.most:
            raise StoreFull
        system, path = self._reach()
        system.pipe_file(f"{path}/{sample.model}/{sample.kind}/{folder_name(sample.folder)}/{new_name()}", data)
        self.held += len(data)

    def expire(self) -> None:
        """Remove samples that are too old, and count what is left. Raises what the store raises."""
        system, path = self._reach()
        until = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=self.days)
        held = 0
        for name, info in system.find(path, detail=True).items():
            parts = name[len(path) :].strip("/").split("/")
            if len(parts) == 4 and parts[1] in get_args(Kind) and NAME.fullmatch(posixpath.basename(name)):
                if parts[3][:8] < until.strftime("%Y%m%d"):
                    system.rm_file(name)
                else:
                    held += int(info["size"])
        self.held = held

    def _reach(self) -> tuple[Any, str]:
        if self._system is None:  # on the thread that writes: the network may not answer
            import fsspec

            self._system = fsspec.url_to_fs(self.root, use_listings_cache=False)
        system, path = self._system
        return system, path.rstrip("/")
