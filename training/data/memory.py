"""How much memory there is to keep images in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

_CGROUP: Final = Path("/sys/fs/cgroup")
"""Of control groups in their second version, as a container sees its own."""


def limit() -> int:
    """How many bytes of images are kept in memory: a quarter of what is free. More than that streams from the cache.

    While they are read, and again while they are split, they are there twice; the rest is for the training.
    """
    return min(_free(), _left_to_container()) // 4


def _free() -> int:
    """Bytes that the system could give, what it can drop from its caches included."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):  # not Linux
        return 8 * 2**30


def _left_to_container() -> int:
    """Bytes up to the limit of this process' control group, as containers have one."""
    try:
        most, used = ((_CGROUP / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
        return max(0, int(most) - int(used))
    except (OSError, ValueError):  # there is none, or it is "max"
        return sys.maxsize
