"""How many processor cores a process may use: one count for serving and training.

onnxruntime, TensorFlow and Python count the machine's cores; a container's quota is in its control group. Sources:
https://docs.kernel.org/admin-guide/cgroup-v2.html (`cpu.max`) and https://docs.kernel.org/scheduler/sched-bwc.html
(`cpu.cfs_quota_us` and `cpu.cfs_period_us` of version 1).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN_CGROUPS: Final = Path("/proc/self/cgroup")


def cores(cgroups: Path = _CGROUPS, own: Path = _OWN_CGROUPS) -> int:
    """The cores of this process: its affinity, or the smallest quota of its control groups, whichever is less.

    Args:
        cgroups: where control groups are mounted.
        own: the file that names this process' control groups.

    Returns:
        At least 1; a quota of 1.5 cores counts as 2.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([count, *(round(quota) for quota in _quotas(cgroups, own))]))


def _quotas(cgroups: Path, own: Path) -> Iterator[float]:
    """The quotas, in cores, of this process' control groups and all those above them: the smallest holds."""
    for folder in _folders(cgroups, own):
        quota = _version_2(folder) or _version_1(folder)
        if quota:
            yield quota


def _folders(cgroups: Path, own: Path) -> Iterator[Path]:
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = ["0::/"]  # not Linux, or no /proc: there may still be a quota at the mount's root
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in (cgroups, cgroups / controllers, cgroups / "cpu") if controllers else (cgroups,):
            inside = PurePosixPath(path.lstrip("/"))
            yield from (mount / part for part in (inside, *inside.parents))


def _version_2(folder: Path) -> float | None:
    words = _words(folder / "cpu.max")
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0].isdecimal() else None


def _version_1(folder: Path) -> float | None:
    quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
    return int(quota[0]) / int(period[0]) if quota and period and quota[0].isdecimal() else None  # -1: no quota


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:  # no such control group here, or none of this version
        return []
