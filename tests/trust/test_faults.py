"""Faults: processes killed or stopped, disks full, folders removed, clocks that jump. Ready again within 15 s."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support import bombs
from tests.support.group import workers
from tests.support.images import image
from tests.support.models import ROTATED, colour_bundle, publish
from tests.support.places import fill, small_disk
from tests.support.retrying import PATIENCE_SECONDS, retrying_clients
from tests.support.server import Server
from tests.support.waiting import eventually

READY_SECONDS = PATIENCE_SECONDS
HANG_SECONDS = 20.0
"""After which the supervisor takes a process to hang (service/supervisor.py)."""
SAME = {"red": "red", "green": "green", "blue": "blue"}
KILLS = 3
IS_LONG = float(os.environ.get("KERNELSCOPE_TRUST_MINUTES", "1")) > 1
SEEDS = range(5) if IS_LONG else range(1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    colour_bundle(tmp_path / "models")
    return tmp_path / "models"


def is_ready(server: Server) -> bool:
    """By a new connection, which a process may still take and die with."""
    try:
        return httpx.get(server.url + "/health/ready", timeout=READY_SECONDS).status_code == 200
    except httpx.TransportError:
        return False


def replaced(server: Server, pids: list[int], *, seconds: float = READY_SECONDS) -> None:
    """Wait until none of these processes is left, and there are as many others that serve."""
    eventually(
        lambda: len(workers(server)) == 2 and not {*pids} & {*workers(server)} and is_ready(server), seconds=seconds
    )


def answer(server: Server) -> tuple[int, str]:
    reply = httpx.post(server.url + "/predict", content=image("red"), timeout=READY_SECONDS).json()
    return reply["version"], reply["label"]


# --- processes


@pytest.mark.parametrize("seed", SEEDS)
def test_processes_killed_at_random_moments(serve: Callable[..., Server], root: Path, seed: int) -> None:
    server = serve("--models", str(root), "--workers", "2")
    rng = random.Random(seed)  # noqa: S311 -- the same seed kills at the same moments
    with retrying_clients(server, SAME) as load:
        for _ in range(KILLS):
            load.goes_on(rng.randrange(10, 300))
            victim = rng.choice(workers(server))
            os.kill(victim, signal.SIGKILL)
            replaced(server, [victim])
        load.goes_on()
    assert server.end() == 0


def test_all_processes_killed_at_once(serve: Callable[..., Server], root: Path) -> None:
    server = serve("--models", str(root), "--workers", "2")
    with retrying_clients(server, SAME) as load:
        load.goes_on()
        victims = workers(server)
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        eventually(lambda: len(workers(server)) == 2 and not {*victims} & {*workers(server)}, seconds=READY_SECONDS)
        load.goes_on()
        eventually(lambda: is_ready(server), seconds=READY_SECONDS)
    assert server.end() == 0


@pytest.mark.skipif(not IS_LONG, reason="takes half a minute; tests/service/test_supervisor.py tries it without load")
def test_a_process_that_hangs_is_replaced(serve: Callable[..., Server], root: Path) -> None:
    """What had come to it is lost, and asked again; all else is answered meanwhile."""
    server = serve("--models", str(root), "--workers", "2")
    with retrying_clients(server, SAME, count=4) as load:
        load.goes_on()
        stopped = workers(server)[0]
        os.kill(stopped, signal.SIGSTOP)
        eventually(lambda: stopped not in workers(server), seconds=HANG_SECONDS + READY_SECONDS)
        replaced(server, [stopped])
        load.goes_on()
    assert any("does not answer any more" in line for line in server.lines)
    assert server.end() == 0


# --- disks


def test_a_full_temporary_folder_is_not_noticed(serve: Callable[..., Server], root: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "64k") as folder:
        fill(folder)
        server = serve("--models", str(root), "--workers", "2", TMPDIR=str(folder))
        large = bombs.form([image("red", size=(1200, 1200), kind="BMP")])  # starlette puts a file of 1 MB on the disk
        assert len(large) > 2_000_000
        reply = server.client.post("/predict", content=large, headers={"content-type": bombs.FORM})
        assert reply.status_code == 200, reply.text
        assert server.client.get("/metrics").status_code == 200
        victim = workers(server)[0]
        os.kill(victim, signal.SIGKILL)
        replaced(server, [victim])
        assert answer(server) == (1, "red")
        assert server.end() == 0


def test_a_disk_that_is_full_while_a_version_is_copied(
    serve: Callable[..., Server], root: Path, tmp_path: Path
) -> None:
    made = colour_bundle(tmp_path / "made", "colours", 2, labels=ROTATED).folder
    with small_disk(tmp_path / "small", "1m") as folder:
        shutil.copytree(root, folder, dirs_exist_ok=True)
        filler = fill(folder)
        server = serve("--models", str(folder), "--workers", "2", KERNELSCOPE_WATCH="0.2")
        with retrying_clients(server, SAME) as load:
            load.goes_on()
            with pytest.raises(OSError, match="No space left"):
                shutil.copytree(made, folder / "colours" / "2")
            load.goes_on()
        assert answer(server) == (1, "red")
        filler.unlink()
        shutil.copytree(made, folder / "colours" / "2", dirs_exist_ok=True)
        eventually(lambda: answer(server) == (2, "blue"), seconds=READY_SECONDS)
        assert server.end() == 0


# --- folders


def test_a_models_folder_that_is_removed_and_comes_back(serve: Callable[..., Server], root: Path) -> None:
    server = serve("--models", str(root), "--workers", "2", KERNELSCOPE_WATCH="0.2")
    with retrying_clients(server, SAME) as load:
        beside = root.with_name("beside")
        root.rename(beside)
        load.goes_on()
        assert is_ready(server)
        victim = workers(server)[0]
        os.kill(victim, signal.SIGKILL)  # what replaces it has nothing to load
        eventually(lambda: victim not in workers(server))
        load.goes_on()
        beside.rename(root)
        replaced(server, [victim], seconds=2 * READY_SECONDS)
        load.goes_on()
    assert server.end() == 0


def test_a_models_folder_that_is_replaced(serve: Callable[..., Server], root: Path, tmp_path: Path) -> None:
    """As a volume is, when another is mounted in its place: by a link that is moved."""
    publish(root, 2, labels=ROTATED)
    other = colour_bundle(tmp_path / "other" / "models", "colours", 3).folder.parent.parent
    link = tmp_path / "link"
    link.symlink_to(root)
    server = serve("--models", str(link), "--workers", "2", KERNELSCOPE_WATCH="0.2")
    assert answer(server) == (2, "blue")
    new = tmp_path / "new"
    new.symlink_to(other)
    new.rename(link)
    eventually(lambda: answer(server) == (3, "red"), seconds=READY_SECONDS)
    assert is_ready(server)
    assert server.end() == 0


# --- clocks

_JUMPING = """
import os, time
_true, _path = time.time, {path!r}

def _jumping():
    try:
        with open(_path) as file:
            return _true() + float(file.read() or 0)
    except OSError:
        return _true()

time.time = _jumping
"""


@pytest.mark.parametrize("seconds", [1e9, -1e9], ids=["forward", "back"])
def test_a_clock_that_jumps(serve: Callable[..., Server], root: Path, tmp_path: Path, seconds: float) -> None:
    """The clock of the day, as Python's code sees it, and files from the future and the past.

    The machine's own clock is left as it is: what the interpreter and libraries read in C does not jump here.
    """
    offset = tmp_path / "offset"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(_JUMPING.format(path=str(offset)))
    server = serve(
        "--models",
        str(root),
        "--workers",
        "2",
        KERNELSCOPE_WATCH="0.2",
        PYTHONPATH=os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]),
    )
    with retrying_clients(server, SAME) as load:
        load.goes_on()
        offset.write_text(str(seconds))
        load.goes_on()
        assert is_ready(server)
        victim = workers(server)[0]
        os.kill(victim, signal.SIGKILL)
        replaced(server, [victim])
    publish(root, 2, labels=ROTATED)
    for path in [*(root / "colours" / "2").iterdir(), root / "colours" / "2", root / "colours"]:
        os.utime(path, (time.time() + seconds,) * 2)
    eventually(lambda: answer(server) == (2, "blue"), seconds=READY_SECONDS)
    assert server.end() == 0
