"""Places with limits: a small disk, and a group of processes with little memory. Both need root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.waiting import eventually

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A file system of its own, in memory; the test is skipped where none can be mounted."""
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(folder: Path) -> Path:
    """Write a file until the disk is full; removing it makes room."""
    filler = folder / "filler"
    with Path("/dev/zero").open("rb") as zeros, filler.open("wb", buffering=0) as out, suppress(OSError):
        shutil.copyfileobj(zeros, out, 4096)
    return filler


class MemoryGroup:
    """A control group.

    Attributes:
        wrapper: what a command is to begin with, so that it runs in the group.
        version: of control groups, 1 or 2.
    """

    def __init__(self, folder: Path, version: int) -> None:
        self._folder, self.version = folder, version
        self.wrapper = ("sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh")

    @property
    def killed(self) -> int:
        """How many processes the kernel has killed for want of memory."""
        events = self._folder / ("memory.events" if self.version == 2 else "memory.oom_control")
        return sum(int(line.split()[1]) for line in events.read_text().splitlines() if line.startswith("oom_kill "))

    @property
    def most(self) -> int:
        """Bytes that it held at most."""
        name = "memory.peak" if self.version == 2 else "memory.max_usage_in_bytes"
        return int((self._folder / name).read_text())


@contextmanager
def memory_group(size: int) -> Iterator[MemoryGroup]:
    """A control group whose processes may hold `size` bytes; the test is skipped where none can be made."""
    version = 2 if (_V2 / "cgroup.controllers").exists() else 1
    folder = (_V2 if version == 2 else _V1) / f"kernelscope-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / ("memory.max" if version == 2 else "memory.limit_in_bytes")).write_text(str(size))
    except OSError as error:
        pytest.skip(f"a control group cannot be made here: {error}")
    try:
        yield MemoryGroup(folder, version)
    finally:
        eventually(lambda: not (folder / "cgroup.procs").read_text().split(), seconds=30)
        folder.rmdir()
