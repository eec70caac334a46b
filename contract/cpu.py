"""How many processor cores there are to use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")


def cores() -> int:
    """The processor cores this process may use: its affinity and its cgroup's quota, which onnxruntime ignores."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
    except (OSError, ValueError):
        return count  # no cgroup v2 here
    return count if quota == "max" else max(1, min(count, round(int(quota) / int(period))))
