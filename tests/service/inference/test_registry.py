"""The model repository, changed under a running server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.images import image
from tests.support.models import ADMIN, ROTATED, colour_bundle, publish
from tests.support.server import Server
from tests.support.waiting import eventually


@pytest.fixture
def root(tmp_path: Path) -> Path:
    colour_bundle(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def running(serve: Callable[..., Server], root: Path) -> Server:
    return serve("--models", str(root), KERNELSCOPE_ADMIN_KEY="secret", KERNELSCOPE_WATCH="0")


def load(server: Server, version: int | None = None, code: int = 200) -> str:
    body = {} if version is None else {"parameters": {"version": str(version)}}
    reply = server.client.post("/v2/repository/models/colours/load", json=body, headers=ADMIN)
    assert reply.status_code == code, reply.text
    return reply.text


def answer(server: Server) -> tuple[int, str]:
    reply = server.client.post("/predict", content=image("red")).json()
    return reply["version"], reply["label"]


def test_a_new_version_is_loaded_and_going_back_is_one_call(running: Server, root: Path) -> None:
    assert answer(running) == (1, "red")
    publish(root, 2, labels=ROTATED)
    load(running)
    assert answer(running) == (2, "blue")
    load(running, 1)
    assert answer(running) == (1, "red")
    states = {one["version"]: one["state"] for one in running.client.post("/v2/repository/index").json()}
    assert states == {"1": "READY", "2": "UNAVAILABLE"}
    load(running)
    assert answer(running) == (2, "blue")


def test_the_folder_is_watched_and_sighup_looks_at_once(serve: Callable[..., Server], root: Path) -> None:
    server = serve("--models", str(root), KERNELSCOPE_WATCH="0.05")
    publish(root, 2, labels=ROTATED)
    eventually(lambda: answer(server)[0] != 1)
    assert answer(server) == (2, "blue")
    unwatched = serve("--models", str(root), KERNELSCOPE_WATCH="0")
    publish(root, 3)
    assert answer(unwatched)[0] == 2
    unwatched.process.send_signal(signal.SIGHUP)
    eventually(lambda: answer(unwatched)[0] != 2)
    assert answer(unwatched) == (3, "red")


@pytest.mark.parametrize(
    "fault", ["junk", "other size", "other classes", "number for text", "half a surrogate pair", "nested card"]
)
def test_a_version_that_cannot_be_served_is_refused_and_the_old_one_goes_on(
    running: Server, root: Path, fault: str
) -> None:
    publish(root, 2, **({"height": 16, "width": 16} if fault == "other size" else {}))
    folder = root / "colours" / "2"
    if fault == "junk":
        (folder / "model.onnx").write_bytes(b"junk")
    if fault == "other classes":
        card = (folder / "card.json").read_text().replace('"blue"', '"blue", "grey"')
        (folder / "card.json").write_text(card)
    if fault in {"number for text", "half a surrogate pair"}:
        card = json.loads((folder / "card.json").read_text())
        recipe = 7 if fault == "number for text" else "\ud800"
        (folder / "card.json").write_text(json.dumps({**card, "training": {"recipe": recipe}}))
    if fault == "nested card":
        (folder / "card.json").write_text("[" * 100_000)
    load(running, code=400)
    assert answer(running) == (1, "red")
    running.process.send_signal(signal.SIGHUP)
    refused = eventually(lambda: running.client.get("/models").json()["refused"])
    assert (refused[0]["name"], refused[0]["version"]) == ("colours", 2)
    assert refused[0]["reason"]
    assert answer(running) == (1, "red")


def test_a_refused_version_is_tried_again_once_its_files_change(serve: Callable[..., Server], root: Path) -> None:
    server = serve("--models", str(root), KERNELSCOPE_WATCH="0.05")
    publish(root, 2, labels=ROTATED)
    folder = root / "colours" / "2"
    good = (root.parent / "good.onnx").write_bytes((folder / "model.onnx").read_bytes())
    assert good
    (folder / "model.onnx").write_bytes(b"junk")
    os.utime(folder / "model.onnx", ns=(1, 1))
    eventually(lambda: server.client.get("/models").json()["refused"] or answer(server)[0] != 1)
    shutil.copy(root.parent / "good.onnx", folder / "model.onnx")
    eventually(lambda: answer(server)[0] != 1)
    assert server.client.get("/models").json()["refused"] == []


def test_a_version_counts_once_it_has_both_its_files(serve: Callable[..., Server], root: Path) -> None:
    server = serve("--models", str(root), KERNELSCOPE_WATCH="0.05")
    beside = colour_bundle(root.parent / "beside", "colours", 2, labels=ROTATED).folder
    (root / "colours" / "2").mkdir()
    shutil.copy(beside / "model.onnx", root / "colours" / "2")
    for _ in range(50):
        assert answer(server) == (1, "red")
    assert server.client.get("/models").json()["refused"] == []
    shutil.copy(beside / "card.json", root / "colours" / "2")
    eventually(lambda: answer(server)[0] != 1)


def test_a_version_that_is_a_link_goes_by_its_own_name(serve: Callable[..., Server], root: Path) -> None:
    elsewhere = colour_bundle(root.parent / "elsewhere", "colours", 5, labels=ROTATED).folder
    (root / "colours" / "2").symlink_to(elsewhere)
    (root / "colours" / "0").symlink_to(elsewhere)
    server = serve("--models", str(root), "--versions", "all")
    assert [one["version"] for one in server.client.get("/models").json()["models"]] == [1, 2]
    assert answer(server) == (2, "blue")


def test_unloading(running: Server) -> None:
    assert running.client.post("/v2/repository/models/colours/unload", headers=ADMIN).status_code == 200
    assert running.client.post("/predict", content=image()).status_code == 404
    load(running)
    assert answer(running) == (1, "red")


def test_the_admin_key_is_needed(running: Server) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-API-Key": "secre"}):
        reply = running.client.post("/v2/repository/models/colours/unload", headers=headers)
        assert reply.status_code == 401
        assert "admin key" in reply.json()["error"]
    assert answer(running) == (1, "red")


def test_loading_what_is_not_there(running: Server) -> None:
    assert "versions there: 1" in load(running, 9, 404)
    reply = running.client.post("/v2/repository/models/shapes/load", headers=ADMIN)
    assert reply.status_code == 404


def test_all_versions_can_be_served_at_once(serve: Callable[..., Server], root: Path) -> None:
    publish(root, 2, labels=ROTATED)
    server = serve("--models", str(root), "--versions", "all")
    answers = [server.client.post(f"/predict?version={v}", content=image("red")).json()["label"] for v in (1, 2)]
    assert answers == ["red", "blue"]
    pinned = serve("--models", str(root), "--versions", "1")
    assert answer(pinned) == (1, "red")


def test_swapping_under_load_loses_nothing(running: Server, root: Path) -> None:
    publish(root, 2, labels=ROTATED)
    wrong: list[object] = []
    seen: set[int] = set()
    count = [0]
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            reply = running.client.post("/predict", content=image("red"))
            body = reply.json()
            seen.add(body.get("version", 0))
            count[0] += 1
            if reply.status_code != 200 or (body["version"], body["label"]) not in {(1, "red"), (2, "blue")}:
                wrong.append(body)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for i in range(12):
        load(running, 2 - i % 2)
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert seen == {1, 2}
    assert count[0] > 50


def test_keys(serve: Callable[..., Server], root: Path) -> None:
    server = serve("--models", str(root), KERNELSCOPE_API_KEYS="one, two")
    assert server.client.post("/predict", content=image()).status_code == 401
    assert server.client.get("/models", headers={"X-API-Key": "three"}).json()["error"]["code"] == "wrong_key"
    assert isinstance(server.client.get("/v2/models/colours").json()["error"], str)
    for headers in ({"X-API-Key": "one"}, {"Authorization": "Bearer two"}):
        assert server.client.post("/predict", content=image(), headers=headers).json()["label"] == "red"
    for path in ("/health/live", "/health/ready", "/metrics", "/v2/health/ready"):
        assert server.client.get(path).status_code == 200


def test_cors_is_off_unless_asked_for(serve: Callable[..., Server], root: Path, server: Server) -> None:
    origin = {"Origin": "https://page.example"}
    assert "access-control-allow-origin" not in server.client.get("/health", headers=origin).headers
    other = serve("--models", str(root), KERNELSCOPE_CORS_ORIGINS="https://page.example")
    assert other.client.get("/health", headers=origin).headers["access-control-allow-origin"] == origin["Origin"]


def test_a_repository_that_vanishes_does_not_end_the_service(serve: Callable[..., Server], root: Path) -> None:
    server = serve("--models", str(root), KERNELSCOPE_WATCH="0.05")
    os.rename(root, root.parent / "away")
    for _ in range(20):
        assert answer(server) == (1, "red")
    assert server.end() == 0
