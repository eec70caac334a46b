"""Two versions of a model by weight: every process agrees, and the way back is one call."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.group import reach, workers
from tests.support.images import image
from tests.support.models import ADMIN, ROTATED, colour_bundle, publish
from tests.support.server import Server, figures
from tests.support.waiting import eventually

CANARY = "/models/colours/canary"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    colour_bundle(tmp_path / "models")
    publish(tmp_path / "models", 2, labels=ROTATED)
    return tmp_path / "models"


@pytest.fixture
def group(serve: Callable[..., Server], root: Path) -> Server:
    return serve("--models", str(root), "--workers", "2", KERNELSCOPE_ADMIN_KEY="secret", KERNELSCOPE_WATCH="0")


@pytest.fixture
def each(group: Server) -> Iterator[list[httpx.Client]]:
    """A client of each process."""
    with reach(group) as clients:
        yield list(clients.values())


def put(client: httpx.Client, **query: Any) -> httpx.Response:
    return client.put(CANARY, params=query, headers=ADMIN)


def answers(client: httpx.Client, count: int) -> Counter[tuple[int, str]]:
    replies = [client.post("/predict", content=image("red")).json() for _ in range(count)]
    return Counter((reply["version"], reply["label"]) for reply in replies)


def shares(client: httpx.Client) -> dict[int, float]:
    return {one["version"]: one["share"] for one in client.get("/models").json()["models"]}


def test_a_part_of_the_requests_goes_to_the_canary_in_every_process(group: Server, each: list[httpx.Client]) -> None:
    assert answers(each[0], 3) == {(2, "blue"): 3}  # the newest
    reply = put(group.client, version=2, weight=0.25, base=1)
    assert (reply.status_code, reply.json()) == (200, {"name": "colours", "shares": {"1": 0.75, "2": 0.25}})
    for client in each:
        assert shares(client) == {1: 0.75, 2: 0.25}
        found = answers(client, 100)
        assert set(found) == {(1, "red"), (2, "blue")}
        assert 8 <= found[2, "blue"] <= 43  # chance goes beyond that once in 10,000 times
        for version, label in ((1, "red"), (2, "blue")):
            asked = client.post(f"/predict?version={version}", content=image("red")).json()
            assert (asked["version"], asked["label"]) == (version, label)
        tensor = {"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": [0] * 192}]}
        by_v2 = {client.post("/v2/models/colours/infer", json=tensor).json()["model_version"] for _ in range(40)}
        assert by_v2 == {"1", "2"}
        told = {client.get("/models/colours").json()["version"] for _ in range(20)}
        assert told == {1}  # what only tells something does not change from call to call
    counted = figures(group)
    by_version = [
        counted[f"kernelscope_confidence_count[('model', 'colours'), ('version', '{version}')]"] for version in (1, 2)
    ]
    assert min(by_version) > 0
    assert put(each[0], version=2, weight=1).json()["shares"] == {"2": 1.0}
    assert answers(each[1], 20) == {(2, "blue"): 20}
    assert put(each[1], version=2, weight=0).json()["shares"] == {"1": 1.0}
    assert answers(each[0], 20) == {(1, "red"): 20}


def test_rolling_back_is_one_call_and_loses_nothing(group: Server, root: Path) -> None:
    """Under load, while the weight changes again and again."""
    done, statuses = threading.Event(), Counter[int]()

    def ask() -> None:
        with httpx.Client(base_url=group.url) as client:
            while not done.is_set():
                statuses[client.post("/predict", content=image("red")).status_code] += 1

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for weight in (0.1, 0.9, 0.5):
        assert put(group.client, version=2, weight=weight, base=1).status_code == 200
        rolled = group.client.delete(CANARY, headers=ADMIN)
        assert (rolled.status_code, rolled.json()["shares"]) == (200, {"1": 1.0})
    done.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200}
    assert answers(group.client, 20) == {(1, "red"): 20}
    assert group.client.post("/predict?version=2", content=image()).status_code == 404
    again = group.client.delete(CANARY, headers=ADMIN)
    assert (again.status_code, again.json()["shares"]) == (200, {"1": 1.0})
    publish(root, 3)
    for pid in workers(group):
        os.kill(pid, signal.SIGHUP)
    eventually(lambda: [one for one in group.client.get("/v2/models").json()["versions"] if one["version"] == "3"])
    assert shares(group.client) == {1: 1.0}  # who has rolled back is not overtaken
    loaded = group.client.post("/v2/repository/models/colours/load", headers=ADMIN)
    assert loaded.status_code == 200
    assert shares(group.client) == {3: 1.0}


def test_a_canary_that_is_loaded_answers_everything(group: Server, each: list[httpx.Client]) -> None:
    put(group.client, version=2, weight=0.1, base=1)
    body = {"parameters": {"version": "2"}}
    assert group.client.post("/v2/repository/models/colours/load", json=body, headers=ADMIN).status_code == 200
    for client in each:
        assert shares(client) == {2: 1.0}
        assert answers(client, 20) == {(2, "blue"): 20}


def test_a_process_that_is_replaced_has_the_same_canary(group: Server) -> None:
    """The leader, which decides, is killed."""
    put(group.client, version=2, weight=0.25, base=1)
    leader = workers(group)[0]
    os.kill(leader, signal.SIGKILL)
    eventually(lambda: leader not in workers(group) and len(workers(group)) == 2)
    with reach(group) as clients:
        for client in clients.values():
            assert shares(client) == {1: 0.75, 2: 0.25}
    assert group.client.delete(CANARY, headers=ADMIN).json()["shares"] == {"1": 1.0}


def test_a_canary_that_cannot_be_served(group: Server, root: Path) -> None:
    publish(root, 3)
    (root / "colours" / "3" / "model.onnx").write_bytes(b"junk")
    for query, status, code in (
        ({"version": 3, "weight": 0.5}, 409, "not_served"),
        ({"version": 2, "weight": 0.5}, 409, "not_served"),  # it is what answers
        ({"version": 1, "weight": 0.5, "base": 1}, 409, "not_served"),
        ({"version": 9, "weight": 0.5}, 404, "unknown_model"),
        ({"version": 1, "weight": 0.5, "base": 9}, 404, "unknown_model"),
        ({"version": 1, "weight": 1.5}, 422, "invalid_parameter"),
        ({"version": 1, "weight": "nan"}, 422, "invalid_parameter"),
        ({"version": 1}, 422, "invalid_parameter"),
    ):
        reply = put(group.client, **query)
        assert (reply.status_code, reply.json()["error"]["code"]) == (status, code), reply.text
        assert shares(group.client) == {2: 1.0}
        assert answers(group.client, 5) == {(2, "blue"): 5}
    assert group.client.put("/models/nothing/canary?version=1&weight=0.5", headers=ADMIN).status_code == 404
    assert group.client.delete("/models/nothing/canary", headers=ADMIN).status_code == 404
    assert group.client.delete(CANARY).status_code == 401


def test_a_canary_takes_the_admin_key(server: Server) -> None:
    assert server.client.put(f"{CANARY}?version=1&weight=0.5").json()["error"]["code"] == "no_admin_key"
    assert server.client.delete(CANARY).json()["error"]["code"] == "no_admin_key"
