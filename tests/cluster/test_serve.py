"""deploy/ray/serve.py on two nodes: under load, a version is replaced, a node dies, and replicas are added."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.support.images import image
from tests.support.models import ROTATED, colour_bundle, slow_bundle
from tests.support.server import ROOT
from tests.support.two_nodes import TwoNodes
from tests.support.waiting import eventually

pytest.importorskip("ray", reason="Ray is not installed: make test-cluster brings it")

RED = image("red")
PATIENCE = 60.0
"""Seconds that a client tries again for."""


REPLICAS = """
import sys
from ray import serve
from service import ray_cluster
from tests.support.waiting import eventually

def running():
    states = serve.status().applications["kernelscope"].deployments["kernelscope"].replica_states
    return str(states.get("RUNNING", 0))

ray_cluster.join(sys.argv[1])
before = ""
while True:
    before = eventually(lambda: {running()} - {before}, seconds=200).pop()
    print(before, flush=True)
"""
"""Prints how many replicas run, whenever that has changed."""


def deploy(nodes: TwoNodes, models: Path, *words: str) -> None:
    done = subprocess.run(
        [
            sys.executable, str(ROOT / "deploy" / "ray" / "serve.py"), "--address", nodes.address,
            "--host", "127.0.0.1", "--port", str(nodes.ports[0]), "--models", str(models),
            "--min-replicas", "2", "--max-replicas", "2", "--cpus", "1", *words,
        ],
        cwd=models, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


class Client(threading.Thread):
    """Asks one proxy again and again, and tries again where that fails."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._url = f"http://127.0.0.1:{port}/predict"
        self._ended = threading.Event()
        self.labels: list[str] = []
        self.failures: list[str] = []
        self.lost = 0

    def run(self) -> None:
        with httpx.Client(timeout=20) as client:
            while not self._ended.is_set():
                self._ask(client)
                self._ended.wait(0.05)

    def _ask(self, client: httpx.Client) -> None:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                reply = client.post(self._url, content=RED, headers={"Content-Type": "image/png"})
                if reply.status_code == 200:
                    self.labels.append(reply.json()["label"])
                    return
                self.failures.append(f"{reply.status_code} {reply.text[:200]}")
            except httpx.TransportError as error:
                self.failures.append(repr(error))
            self._ended.wait(0.2)
        self.lost += 1

    def end(self) -> None:
        self._ended.set()
        self.join(PATIENCE)


def test_a_version_is_replaced_and_a_node_dies_under_load(nodes: TwoNodes, tmp_path: Path) -> None:
    models = tmp_path / "models"
    colour_bundle(models, version=1)
    colour_bundle(models, version=2, labels=ROTATED)
    deploy(nodes, models, "--versions", "1")
    head, other = (f"http://127.0.0.1:{port}" for port in nodes.ports)
    eventually(lambda: _label(head) == _label(other) == "red", seconds=60)
    health = httpx.get(f"{head}/health", timeout=20).json()
    assert health["status"] == "ready"
    bad = httpx.post(f"{head}/predict", content=b"text", headers={"Content-Type": "image/png"}, timeout=20)
    assert (bad.status_code, bad.json()["error"]["code"]) == (415, "unsupported_image")

    client = Client(nodes.ports[0])
    client.start()
    eventually(lambda: len(client.labels) > 5)
    deploy(nodes, models, "--versions", "2")
    eventually(lambda: client.labels[-20:] == ["blue"] * 20, seconds=120)
    assert set(client.labels) == {"red", "blue"}
    assert client.failures == []  # one replica after the other, each drained

    before = len(client.labels)
    nodes.kill()
    eventually(lambda: len(client.labels) > before + 20, seconds=120)
    client.end()
    assert client.lost == 0
    assert set(client.labels[before:]) == {"blue"}


def test_replicas_follow_the_load(nodes: TwoNodes, tmp_path: Path) -> None:
    """One, two under a load of more than the target, and one again when it is over."""
    models = tmp_path / "models"
    slow_bundle(models, seconds=0.5)
    words = ("--target-requests", "1", "--upscale-delay", "0.5", "--downscale-delay", "2")
    deploy(nodes, models, "--min-replicas", "1", "--max-replicas", "2", *words)
    clients = [Client(nodes.ports[0]) for _ in range(4)]
    watch = [sys.executable, "-c", REPLICAS, nodes.address]
    with subprocess.Popen(watch, stdout=subprocess.PIPE, text=True) as watching:
        try:
            assert watching.stdout
            counts = map(int, watching.stdout)
            assert next(counts) == 1
            for client in clients:
                client.start()
            assert next(count for count in counts if count != 1) == 2
            for client in clients:
                client.end()
            assert next(count for count in counts if count != 2) == 1
        finally:
            watching.kill()
            for client in clients:
                if client.is_alive():
                    client.end()
    assert [client.failures for client in clients] == [[]] * 4
    assert all(client.labels for client in clients)


def _label(url: str) -> str:
    try:
        reply = httpx.post(f"{url}/predict", content=RED, headers={"Content-Type": "image/png"}, timeout=20)
        return str(reply.json().get("label"))
    except (httpx.TransportError, ValueError):
        return ""
