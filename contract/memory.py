"""How much memory a process may use: one count for serving and training."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from contract import cgroups

_SYSTEM: Final = Path("/proc/meminfo")
_ELSEWHERE: Final = 8 * 2**30
"""What is taken for granted on systems that do not tell."""
_NO_LIMIT: Final = 2**60
"""Version 1 of control groups writes a number beyond this where there is no limit."""


def limit(mount: Path = cgroups.MOUNT, own: Path = cgroups.OWN, system: Path = _SYSTEM) -> int:
    """Bytes that this process may have in all: the smallest limit of its control groups, or what the machine has.

    Args:
        mount, own: see `cgroups.folders`.
        system: the file that tells of the machine's memory.
    """
    limits = [most for most, _ in _groups(mount, own)]
    return min([_of_system(system, "MemTotal"), *limits])


def available(mount: Path = cgroups.MOUNT, own: Path = cgroups.OWN, system: Path = _SYSTEM) -> int:
    """Bytes that this process could still get, what the system can drop from its caches included; see `limit`."""
    left = [max(0, most - used) for most, used in _groups(mount, own)]
    return min([_of_system(system, "MemAvailable"), *left])


def _groups(mount: Path, own: Path) -> list[tuple[int, int]]:
    """Of each control group that has a limit: the limit, and what is used of it, without files that can be dropped."""
    groups = []
    for folder in cgroups.folders("memory", mount, own):
        for most, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            bytes_at_most, bytes_now = cgroups.words(folder / most), cgroups.words(folder / used)
            if bytes_at_most and bytes_now and bytes_at_most[0].isdecimal() and int(bytes_at_most[0]) < _NO_LIMIT:
                groups.append((int(bytes_at_most[0]), max(0, int(bytes_now[0]) - _droppable(folder))))
    return groups


def _droppable(folder: Path) -> int:
    """Bytes of files that the kernel keeps in memory and drops where it is needed."""
    statistics = cgroups.words(folder / "memory.stat")
    named = dict(zip(statistics[::2], statistics[1::2], strict=False))
    return int(named.get("inactive_file", named.get("total_inactive_file", 0)))


def _of_system(system: Path, name: str) -> int:
    words = cgroups.words(system)
    try:
        return int(words[words.index(f"{name}:") + 1]) * 1024
    except (ValueError, IndexError):  # not Linux
        return _ELSEWHERE
