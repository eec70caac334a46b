"""Ten thousand requests while models are swapped under them, and then a SIGTERM: none is lost, none is wrong."""

from __future__ import annotations

import http.client
import itertools
import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.images import image
from tests.support.models import ADMIN, ROTATED, colour_bundle
from tests.support.server import Server

REQUESTS, CLIENTS = 10_000, 16
SAID = {1: {"red": "red", "green": "green", "blue": "blue"}, 2: {"red": "blue", "green": "red", "blue": "green"}}
"""What each version answers to an image of each colour."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "models"
    colour_bundle(root)
    beside = colour_bundle(tmp_path / "beside", "colours", 2, labels=ROTATED)
    shutil.move(beside.folder, root / "colours" / "2")
    return root


@pytest.mark.parametrize("workers", ["1", "2"])
def test_none_is_lost_or_wrong(serve: Callable[..., Server], root: Path, workers: str) -> None:
    server = serve("--models", str(root), "--workers", workers, KERNELSCOPE_ADMIN_KEY="secret")
    host, port = server.url.removeprefix("http://").split(":")
    numbers, ending, under_way = itertools.count(), threading.Event(), threading.Semaphore(0)

    def ask() -> Counter[int]:
        """Ask until the server ends; the versions that have answered."""
        versions: Counter[int] = Counter()
        with closing(http.client.HTTPConnection(host, int(port), timeout=60)) as connection:
            for colour in itertools.cycle(SAID[1]):
                try:
                    connection.request("POST", "/predict", image(colour))
                    reply = connection.getresponse()
                    body = json.loads(reply.read())
                except OSError:
                    assert ending.is_set()  # it took no more connections, or had closed this one
                    break
                assert reply.status == 200, body
                assert body["label"] == SAID[body["version"]][colour], body
                versions[body["version"]] += 1
                if next(numbers) == REQUESTS:
                    under_way.release()
        return versions

    with ThreadPoolExecutor(CLIENTS) as pool:
        asking = [pool.submit(ask) for _ in range(CLIENTS)]
        for version in itertools.cycle("12"):
            wish = {"parameters": {"version": version}}
            reply = server.client.post("/v2/repository/models/colours/load", json=wish, headers=ADMIN)
            assert reply.status_code == 200, reply.text
            if under_way.acquire(blocking=False):
                break
        ending.set()
        assert server.end() == 0
        answered = sum((one.result() for one in asking), Counter[int]())
    assert answered.total() >= REQUESTS
    assert min(answered[1], answered[2]) > REQUESTS / 100  # both have had their turns
    # what the server has taken, by its own log, is what the clients have had an answer to
    logged = Counter(line["status"] for line in server.log() if line.get("path") == "/predict")
    assert logged == {200: answered.total()}
