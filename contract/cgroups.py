"""The Linux control groups of this process, of version 1 and 2, and all those above them: the tightest limit holds.

Sources: https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/scheduler/sched-bwc.html and
https://docs.kernel.org/admin-guide/cgroup-v1/memory.html.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final, Literal

MOUNT: Final = Path("/sys/fs/cgroup")
OWN: Final = Path("/proc/self/cgroup")


def folders(controller: Literal["cpu", "memory"], mount: Path = MOUNT, own: Path = OWN) -> Iterator[Path]:
    """The folders of this process' control groups that may limit something, from the innermost outwards.

    Args:
        controller: what they limit.
        mount: where control groups are mounted.
        own: the file that names this process' control groups, a line for each hierarchy.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = ["0::/"]  # no /proc: there may still be a limit at the mount's root
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        inside = PurePosixPath(path.lstrip("/"))
        mounts = (mount / controllers, mount / controller) if controllers else (mount,)
        for root in mounts:
            yield from (root / part for part in dict.fromkeys((inside, *inside.parents)))


def words(path: Path) -> list[str]:
    """The words in one of their files; none where there is no such file."""
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []
