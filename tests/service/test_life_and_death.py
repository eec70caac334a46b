"""What ends, hangs or misleads a process, and what is served afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.group import is_alive, reach, workers
from tests.support.images import image
from tests.support.models import ADMIN, ROTATED, colour_bundle, looping_bundle, publish
from tests.support.server import ROOT, Server, command
from tests.support.waiting import eventually

LOAD = "/v2/repository/models/colours/load"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    colour_bundle(tmp_path / "models")
    publish(tmp_path / "models", 2, labels=ROTATED)
    return tmp_path / "models"


def answer(client: httpx.Client) -> tuple[int, str]:
    reply = client.post("/predict", content=image("red")).json()
    return reply["version"], reply["label"]


def truncate(root: Path, version: int) -> None:
    model = root / "colours" / str(version) / "model.onnx"
    model.write_bytes(model.read_bytes()[:100])


def refused(client: httpx.Client) -> dict[tuple[str, int], str]:
    return {(one["name"], one["version"]): one["reason"] for one in client.get("/models").json()["refused"]}


def is_ready(server: Server) -> bool:
    return server.client.get("/health/ready").status_code == 200


# --- a bad version is never the end


@pytest.mark.parametrize("fault", ["truncated", "no card fields", "an empty file"])
def test_a_cold_start_falls_back_to_the_newest_version_that_loads(
    serve: Callable[..., Server], root: Path, fault: str
) -> None:
    publish(root, 3)
    folder = root / "colours" / "3"
    if fault == "truncated":
        truncate(root, 3)
    elif fault == "no card fields":
        (folder / "card.json").write_text("{}")
    else:
        (folder / "model.onnx").write_bytes(b"")
    server = serve("--models", str(root), "--workers", "2")
    assert answer(server.client) == (2, "blue")
    assert refused(server.client)["colours", 3]


def test_one_that_dies_beside_a_bad_newest_version_is_replaced(serve: Callable[..., Server], root: Path) -> None:
    server = serve("--models", str(root), "--workers", "2", KERNELSCOPE_WATCH="0")
    publish(root, 3)
    truncate(root, 3)
    dies = workers(server)[0]
    os.kill(dies, signal.SIGKILL)
    eventually(lambda: len(workers(server)) == 2 and dies not in workers(server) and is_ready(server), seconds=30)
    with reach(server) as clients:
        assert [answer(client) for client in clients.values()] == [(2, "blue")] * 2


def test_another_model_that_is_broken_does_not_stop_the_start(serve: Callable[..., Server], root: Path) -> None:
    colour_bundle(root, "aardvark").model.write_bytes(b"junk")
    (root / "dangling").symlink_to(root / "nowhere")
    (root / "colours" / "4").symlink_to(root / "nowhere")
    (root / "colours" / "notes").mkdir()
    (root / "loop").symlink_to(root / "loop")
    server = serve("--models", str(root))
    assert answer(server.client) == (2, "blue")
    assert ("aardvark", 1) in refused(server.client)
    ignored = {one["path"]: one["reason"] for one in server.client.get("/models").json()["ignored"]}
    assert {"dangling", "loop", "colours/4", "colours/notes"} <= set(ignored)
    assert server.client.post("/predict?model=aardvark", content=image()).status_code == 404


def test_holding_no_model_says_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "pets" / "1").mkdir(parents=True)
    (tmp_path / "pets" / "1" / "model.onnx").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    done = subprocess.run(
        command("serve", "--port", "0", "--models", str(tmp_path)),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 1
    assert "pets/1 has no card.json" in done.stderr
    assert "notes.txt is not a folder" in done.stderr


def test_a_version_that_ends_its_loader_is_not_loaded_again(serve: Callable[..., Server], root: Path) -> None:
    """The loader is ended as the kernel ends it where memory runs out: by SIGKILL, while it warms the model."""
    looping_bundle(root, "colours", 3, above=-1)

    def kill_the_loader() -> None:
        found = eventually(_first_child_of_serve)
        eventually(lambda: _has_run_for(found, 1.5))
        os.kill(found, signal.SIGKILL)

    before = _children_of_serve()

    def _children() -> list[int]:
        return [pid for pid in _children_of_serve() if pid not in before]

    def _first_child_of_serve() -> int:
        return next(iter(sorted(_children())), 0)

    killer = threading.Thread(target=kill_the_loader)
    killer.start()
    server = serve("--models", str(root), "--workers", "2")
    killer.join()
    assert answer(server.client) == (2, "blue")
    assert "by SIGKILL" in refused(server.client)["colours", 3]


def _children_of_serve() -> list[int]:
    """Processes that serve for a supervisor that serves."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                above = Path(f"/proc/{parent}/cmdline").read_bytes().split(b"\0")
            except (OSError, ValueError, IndexError):  # it has ended
                continue
            if b"serve" in words and words == above:
                found.append(int(entry.name))
    return found


def _has_run_for(pid: int, seconds: float) -> bool:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") >= seconds


def test_loading_has_a_time_limit_at_the_start_and_later(serve: Callable[..., Server], root: Path) -> None:
    looping_bundle(root, "colours", 3, above=-1)
    server = serve("--models", str(root), KERNELSCOPE_LOAD_TIMEOUT="3", KERNELSCOPE_ADMIN_KEY="secret")
    assert answer(server.client) == (2, "blue")
    assert "within 3 s" in refused(server.client)["colours", 3]
    looping_bundle(root, "colours", 4, above=-1)
    reply = server.client.post(LOAD, headers=ADMIN)
    assert reply.status_code == 400
    assert "within 3 s" in reply.json()["error"]
    assert answer(server.client) == (2, "blue")
    assert server.end() == 0


# --- what replaces a process serves what the others serve


@pytest.mark.parametrize("change", ["other labels", "truncated"])
def test_a_replacement_never_serves_another_content_than_its_siblings(
    serve: Callable[..., Server], root: Path, change: str
) -> None:
    server = serve("--models", str(root), "--workers", "2", KERNELSCOPE_WATCH="0")
    assert answer(server.client) == (2, "blue")
    if change == "truncated":
        truncate(root, 2)
    else:
        other = colour_bundle(root.parent / "other", "colours", 2, labels=("green", "blue", "red")).folder
        for name in ("model.onnx", "card.json"):
            shutil.copy(other / name, root / "colours" / "2")
    dies = workers(server)[1]
    os.kill(dies, signal.SIGKILL)
    eventually(lambda: len(workers(server)) == 2 and dies not in workers(server) and is_ready(server), seconds=30)
    expected = (1, "red") if change == "truncated" else (2, "green")

    def all_answers() -> bool:
        with reach(server) as clients:
            return [answer(client) for client in clients.values()] == [expected] * 2

    eventually(all_answers, seconds=30)


# --- nothing depends on a temporary folder


@pytest.mark.parametrize("folder", ["removed", "long", "nowhere"])
def test_no_temporary_folder_is_needed(serve: Callable[..., Server], root: Path, tmp_path: Path, folder: str) -> None:
    temporary = tmp_path / ("x" * 90 if folder == "long" else folder)
    if folder != "nowhere":
        temporary.mkdir()
    server = serve(
        "--models",
        str(root),
        "--workers",
        "2",
        TMPDIR=str(temporary),
        PROMETHEUS_MULTIPROC_DIR=str(temporary / "inherited"),
    )
    if folder == "removed":
        temporary.rmdir()
    assert server.client.get("/metrics").status_code == 200
    dies = workers(server)[0]
    os.kill(dies, signal.SIGKILL)
    eventually(lambda: len(workers(server)) == 2 and dies not in workers(server) and is_ready(server), seconds=30)
    assert server.client.get("/metrics").status_code == 200
    assert answer(server.client) == (2, "blue")
    assert server.end() == 0


# --- signals


def test_sigterm_resets_no_client(serve: Callable[..., Server], root: Path) -> None:
    """New connections are answered during the drain delay, and refused afterwards; none is reset."""
    server = serve("--models", str(root), "--workers", "2", KERNELSCOPE_DRAIN_DELAY="1.5")
    answers: list[int] = []
    resets: list[str] = []
    not_ready = threading.Event()

    def ask() -> None:
        while True:
            try:
                answers.append(httpx.post(server.url + "/predict", content=image("red"), timeout=30).status_code)
                if httpx.get(server.url + "/health/ready", timeout=30).status_code == 503:
                    not_ready.set()
            except httpx.ConnectError:
                return
            except httpx.HTTPError as error:
                resets.append(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(answers) > 50)
    assert server.end() == 0
    for thread in threads:
        thread.join()
    assert not resets
    assert set(answers) == {200}
    assert not_ready.is_set()


def test_sigint_does_not_wait_for_the_delay(serve: Callable[..., Server], root: Path) -> None:
    server = serve("--models", str(root), KERNELSCOPE_DRAIN_DELAY="3600")
    assert server.end(signal.SIGINT) == 0


def test_sighup_during_the_start_is_no_death(root: Path) -> None:
    process = subprocess.Popen(
        command("serve", "--port", "0", "--models", str(root), "--workers", "2"),
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        ended = threading.Event()

        def hang_up() -> None:
            own = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            eventually(lambda: own.read_text().split())
            while not ended.wait(0.02):
                process.send_signal(signal.SIGHUP)

        sender = threading.Thread(target=hang_up)
        sender.start()
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "serving colours" in line and "processes" in line:
                break
        ended.set()
        sender.join()
        assert "processes" in lines[-1]
        assert not any("ended with" in line for line in lines)
    finally:
        process.terminate()
        process.stdout.close()
        assert process.wait(20) == 0


# --- a model that does not come to an end


def test_a_run_that_nobody_waits_for_is_ended(serve: Callable[..., Server], tmp_path: Path) -> None:
    looping_bundle(tmp_path, "looping")
    colour_bundle(tmp_path, "colours")
    server = serve("--models", str(tmp_path), "--model", "looping", KERNELSCOPE_ADMIN_KEY="secret")
    # grey is quick, and so is the warm-up
    assert server.client.post("/predict", content=image("red", mode="L")).status_code == 200
    late = server.client.post("/predict?timeout=1", content=image("red"))
    assert (late.status_code, late.json()["error"]["code"]) == (503, "deadline_exceeded")
    assert server.client.post("/predict", content=image("red", mode="L"), timeout=10).status_code == 200
    assert server.client.post(LOAD, headers=ADMIN).status_code == 200
    threading.Thread(target=lambda: httpx.post(server.url + "/predict?timeout=600", content=image("red")), daemon=True)
    assert server.end() == 0


def test_sigterm_ends_a_run_that_does_not_end(serve: Callable[..., Server], tmp_path: Path) -> None:
    looping_bundle(tmp_path, "looping")
    server = serve("--models", str(tmp_path), "--drain-timeout", "1", "--timeout", "600")
    failed: list[str] = []

    def ask() -> None:
        try:
            failed.append(str(httpx.post(server.url + "/predict", content=image("red"), timeout=60).status_code))
        except httpx.HTTPError as error:
            failed.append(repr(error))

    asking = threading.Thread(target=ask)
    asking.start()
    eventually(lambda: "requests_in_flight 2.0" in server.client.get("/metrics").text)
    pids = workers(server)
    assert server.end() == 0
    asking.join()
    assert failed
    assert not any(map(is_alive, pids))
