"""The number of processor cores that a process may use, for serving and training.

onnxruntime, TensorFlow and Python count the machine's cores; a container's quota is in its control group.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from contract import cgroups


def cores(mount: Path = cgroups.MOUNT, own: Path = cgroups.OWN) -> int:
    """Return the cores of this process: its affinity or the smallest quota of its control groups, whichever is less.

    Args:
        mount, own: see `cgroups.folders`.

    Returns:
        At least 1; a quota of 1.5 cores counts as 2.

    Example:
        >>> cores() >= 1
        True
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([count, *(round(quota) for quota in _quotas(mount, own))]))


def _quotas(mount: Path, own: Path) -> Iterator[float]:
    """Quotas in cores. A group of version 2 has `cpu.max`, one of version 1 a quota, -1 for none, and a period."""
    for folder in cgroups.folders("cpu", mount, own):
        share = cgroups.words(folder / "cpu.max") or [
            *cgroups.words(folder / "cpu.cfs_quota_us"),
            *cgroups.words(folder / "cpu.cfs_period_us"),
        ]
        if len(share) == 2 and share[0].isdecimal():
            yield int(share[0]) / int(share[1])
