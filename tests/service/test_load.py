"""What happens when there is more to do than can be done; a slow model makes it happen at once."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.support.images import image
from tests.support.models import slow_bundle
from tests.support.server import Server, figures
from tests.support.waiting import eventually

DEPTH = "kernelscope_queue_depth_images[('model', 'slow'), ('version', '1')]"
RUNS = "kernelscope_inference_seconds_count[('model', 'slow'), ('version', '1')]"
CANCELLED = "kernelscope_cancelled_requests_total[]"
IN_FLIGHT = "kernelscope_requests_in_flight[]"


@pytest.fixture(scope="module")
def slow(serve: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    root = tmp_path_factory.mktemp("slow")
    slow_bundle(root, seconds=1)
    return serve("--models", str(root), "--max-batch-size", "1", "--max-queue", "2")


def until(server: Server, name: str, value: float) -> None:
    """Wait until a figure is at least that; the test's own timeout bounds it."""
    eventually(lambda: figures(server).get(name, 0) >= value)


@contextmanager
def busy(server: Server, waiting: int = 0) -> Iterator[list[Future[httpx.Response]]]:
    """While the model runs one image and others wait; all of them are answered at the end."""
    ask = partial(server.client.post, "/predict", content=image("red"), timeout=60)
    with ThreadPoolExecutor(8) as pool:
        before = figures(server)[IN_FLIGHT]
        some = [pool.submit(ask)]
        until(server, IN_FLIGHT, before + 1)
        some += [pool.submit(ask) for _ in range(waiting)]
        until(server, DEPTH, waiting)
        yield some
        assert [one.result().json()["label"] for one in some] == ["red"] * len(some)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(slow: Server) -> None:
    with busy(slow, waiting=2) as some:
        start = time.perf_counter()
        refused = slow.client.post("/predict", content=image())
        took = time.perf_counter() - start
        assert not any(one.done() for one in some[1:])
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "overloaded"
        assert int(refused.headers["retry-after"]) >= 1
        spoken = slow.client.post(
            "/v2/models/slow/infer", content=image(), headers={"Inference-Header-Content-Length": "0"}
        )
        assert spoken.status_code == 503
        assert isinstance(spoken.json()["error"], str)
        assert took < 0.5
    assert figures(slow)["kernelscope_shed_requests_total[('reason', 'queue_full')]"] >= 2


def test_a_deadline_that_passes_in_the_queue_costs_no_run(slow: Server) -> None:
    before = figures(slow)[RUNS]
    with busy(slow, waiting=1) as some:
        late = slow.client.post("/predict?timeout=0.02", content=image())
        assert late.status_code == 503  # at once where it is known to be in vain, else when its time is up
        assert late.json()["error"]["code"] in {"overloaded", "deadline_exceeded"}
        assert not some[1].done()
    assert figures(slow)[RUNS] == before + 2
    assert figures(slow)[DEPTH] == 0


def test_a_client_that_leaves_costs_no_run(slow: Server) -> None:
    before = figures(slow)
    with busy(slow):
        data = image("blue")
        host, port = slow.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as leaves:
            leaves.sendall(f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
            until(slow, DEPTH, 1)
        until(slow, CANCELLED, before[CANCELLED] + 1)
    assert figures(slow)[RUNS] == before[RUNS] + 1
    assert figures(slow)[DEPTH] == 0


def test_a_body_that_never_comes_is_not_waited_for_without_end(serve: Callable[..., Server], colours: Path) -> None:
    server = serve("--models", str(colours), "--timeout", "0.3")
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as slow_one:
        slow_one.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000\r\n\r\nabc")
        reply = b"".join(iter(lambda: slow_one.recv(65536), b""))
    assert reply.startswith(b"HTTP/1.1 408")
    assert b"request_timeout" in reply
    assert server.client.post("/predict", content=image("green")).json()["label"] == "green"


def test_sigterm_answers_what_was_accepted(serve: Callable[..., Server], tmp_path: Path) -> None:
    slow_bundle(tmp_path, seconds=1)
    server = serve("--models", str(tmp_path), "--max-batch-size", "1")
    with busy(server, waiting=3):
        assert server.end() == 0


def test_the_drain_timeout_ends_what_takes_too_long(serve: Callable[..., Server], tmp_path: Path) -> None:
    slow_bundle(tmp_path, seconds=2)
    server = serve("--models", str(tmp_path), "--max-batch-size", "1", "--drain-timeout", "1")
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(httpx.post, server.url + "/predict", content=image("red"), timeout=60) for _ in range(8)]
        until(server, DEPTH, 7)
        start = time.perf_counter()
        assert server.end() == 0
        assert time.perf_counter() - start < 15
    replies = [one.result() for one in asked]
    ended = [reply for reply in replies if reply.status_code == 503]
    assert len(ended) >= 5
    assert {reply.json()["error"]["code"] for reply in ended} == {"shutting_down"}
    assert {reply.headers["connection"] for reply in ended} == {"close"}
    lines = {line.get("request_id"): line for line in server.log()}
    assert [lines[reply.headers["x-request-id"]]["status"] for reply in replies] == [r.status_code for r in replies]
    assert not [line for line in server.lines if "Traceback" in line]
