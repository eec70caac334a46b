"""Limits of control groups, as the kernel's files tell them in either version."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract import cpu, memory

MEMINFO = "MemTotal:       16000000 kB\nMemAvailable:    8000000 kB\n"


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "200000 100000\n", "cpu.max": "400000 100000\n"}, 2),
        (
            "4:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n",
            {"cpu,cpuacct/docker/x/cpu.cfs_quota_us": "300000\n", "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n"},
            3,
        ),
        # as a container sees it: its own group is the mount's root, while /proc names the path outside
        (
            "4:cpu,cpuacct:/docker/x\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
            2,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_cores(tmp_path: Path, own: str, files: dict[str, str], cores: int) -> None:
    write(tmp_path, {"own": own, **{f"mount/{name}": content for name, content in files.items()}})
    assert cpu.cores(tmp_path / "mount", tmp_path / "own") == cores


@pytest.mark.parametrize(
    ("own", "files", "limit", "available"),
    [
        ("0::/\n", {}, 16_000_000 * 1024, 8_000_000 * 1024),
        ("0::/\n", {"memory.max": "max\n", "memory.current": "5\n"}, 16_000_000 * 1024, 8_000_000 * 1024),
        ("0::/\n", {"memory.max": "1000\n", "memory.current": "400\n"}, 1000, 600),
        (
            "0::/a\n",
            {
                "a/memory.max": "2000\n",
                "a/memory.current": "1500\n",
                "a/memory.stat": "anon 100\ninactive_file 1000\n",
                "memory.max": "5000\n",
                "memory.current": "1500\n",
            },
            2000,
            1500,
        ),
        (
            "3:memory:/docker/x\n",
            {"memory/memory.limit_in_bytes": "3000\n", "memory/memory.usage_in_bytes": "1000\n"},
            3000,
            2000,
        ),
        (
            "3:memory:/\n",
            {"memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/memory.usage_in_bytes": "1000\n"},
            16_000_000 * 1024,
            8_000_000 * 1024,
        ),
    ],
)
def test_memory(tmp_path: Path, own: str, files: dict[str, str], limit: int, available: int) -> None:
    write(tmp_path, {"own": own, "meminfo": MEMINFO, **{f"mount/{name}": content for name, content in files.items()}})
    where = tmp_path / "mount", tmp_path / "own", tmp_path / "meminfo"
    assert memory.limit(*where) == limit
    assert memory.available(*where) == available
