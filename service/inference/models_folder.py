"""The models folder as it was listed last, and the thread that may wait for its disk.

A network file system may never answer; the event loop never waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from contract import manifest, repository
from contract.bundle import Bundle
from contract.errors import BundleNotFound, KernelscopeError
from contract.repository import Fingerprint, Listing

log = logging.getLogger("kernelscope")

SCAN_SECONDS: Final = 10.0
"""How long a change waits for the folder to be listed."""
REFRESH_SECONDS: Final = 1.0
"""How long a call that only tells what there is waits for it."""

_Value = TypeVar("_Value")


class Unavailable(KernelscopeError):
    """The folder did not answer in time; what is loaded goes on serving."""


class ModelsFolder:
    """A models folder.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listing = Listing({}, {})
        self._refreshing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="models")

    @property
    def models(self) -> Mapping[str, Mapping[int, Fingerprint]]:
        """By model, the fingerprint of each version, as they were listed last."""
        return self._listing.versions

    @property
    def ignored(self) -> Mapping[str, str]:
        """What does not count as a model or a version, by its path, and why."""
        return self._listing.ignored

    def why_empty(self) -> str:
        """What was found where no model was."""
        return self._listing.why_empty()

    def fingerprint(self, name: str, version: int) -> Fingerprint | None:
        """A version's fingerprint as it was listed last; None where it was not there."""
        return self._listing.versions.get(name, {}).get(version)

    def check(self, name: str, version: int | None) -> None:
        """Raise `BundleNotFound` where there was no such model or version; the message lists what there was."""
        there = self._listing.versions.get(name, {})
        if not there:
            names = ", ".join(self._listing.versions) or "none"
            raise BundleNotFound(f"there is no model {name!r} in {self.root} (models there: {names})")
        if version is not None and version not in there:
            numbers = ", ".join(map(str, there))
            raise BundleNotFound(f"model {name!r} has no version {version} (versions there: {numbers})")

    async def scan(self, seconds: float | None = None) -> None:
        """List the folder anew.

        Args:
            seconds: how long to wait; for ever where None.

        Raises:
            BundleNotFound: it cannot be listed.
            Unavailable: it did not answer in time.
        """
        self._listing = await self.run(lambda: repository.scan(self.root), seconds)

    async def refresh(self) -> None:
        """List the folder anew; where it does not answer soon, or cannot be listed, what was there before stays."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self.scan())
        done, _ = await asyncio.wait({self._refreshing}, timeout=REFRESH_SECONDS)
        for task in done:
            if isinstance(error := task.exception(), KernelscopeError):
                log.warning("%s", error)

    async def find(self, name: str, version: int) -> Bundle:
        """A version's bundle, its files checked against its manifest where it has one.

        Raises:
            BundleError: its card cannot be read, or a file is damaged.
        """

        def read() -> Bundle:
            bundle = repository.find(self.root, name, version)
            manifest.check_if_there(bundle.folder)
            return bundle

        return await self.run(read)

    async def run(self, read: Callable[[], _Value], seconds: float | None = None) -> _Value:
        """What `read` returns, called on the thread; raises `Unavailable` where that takes longer than `seconds`."""
        task = asyncio.get_running_loop().run_in_executor(self._thread, read)
        try:
            return await asyncio.wait_for(asyncio.shield(task), seconds)
        except TimeoutError:
            raise Unavailable(
                f"{self.root} did not answer within {seconds:g} s; what is loaded goes on serving"
            ) from None

    def close(self) -> None:
        """Let go of the thread, whatever it waits for."""
        self._thread.shutdown(wait=False, cancel_futures=True)
