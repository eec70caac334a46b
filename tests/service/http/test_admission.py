"""A queue that is full: who may ask is told to come again, who may not is told that."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import httpx
import pytest

from service.http.lingering import LINGER_SECONDS
from tests.support.images import image
from tests.support.models import slow_bundle
from tests.support.raw import connect, head, reply_to, rest
from tests.support.server import Server, figures
from tests.support.waiting import eventually

RED = image("red")
KEY = {"X-API-Key": "secret"}


@pytest.fixture(scope="module")
def full(serve: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    root = tmp_path_factory.mktemp("slow")
    slow_bundle(root, seconds=0.5)
    flags = ("--models", str(root), "--max-queue", "1", "--max-batch-size", "1")
    return serve(*flags, KERNELSCOPE_API_KEYS="secret")


@contextmanager
def crowd(server: Server) -> Iterator[None]:
    """Keeps the queue full: three clients that ask again and again."""
    url, goes_on = server.url + "/predict", [True]

    def ask() -> None:
        with httpx.Client(timeout=60) as client:
            while goes_on:
                client.post(url, content=RED, headers=KEY)

    with ThreadPoolExecutor(3) as threads:
        for _ in range(3):
            threads.submit(ask)
        try:
            yield
        finally:
            goes_on.clear()


def test_a_stranger_is_told_so_and_the_others_are_rejected_with_an_id_a_line_and_figures(full: Server) -> None:
    def rejected(**headers: str) -> httpx.Response:
        def ask() -> list[httpx.Response]:
            replies = [full.client.post("/predict", content=RED, headers={**KEY, **headers})]
            return [reply for reply in replies if reply.status_code == 503]

        return eventually(ask)[0]

    with crowd(full):
        named, unnamed = rejected(**{"X-Request-ID": "mine"}), rejected()
        strangers = [full.client.post("/predict", content=RED).status_code for _ in range(20)]
    made = unnamed.headers["x-request-id"]
    assert strangers == [401] * 20
    assert named.headers["x-request-id"] == "mine"
    assert named.json()["error"]["code"] == "overloaded"
    assert re.fullmatch("[0-9a-f]{16}", made)
    counted = {name: value for name, value in figures(full).items() if "'/predict'" in name and "'slow'" in name}
    labels = "('method', 'POST'), ('model', 'slow'), ('route', '/predict'), ('version', '1')]"
    rejections = counted[f"kernelscope_requests_total[('code', '503'), {labels}"]
    answered = counted[f"kernelscope_requests_total[('code', '200'), {labels}"]
    timed = counted["kernelscope_request_seconds_count[('model', 'slow'), ('route', '/predict'), ('version', '1')]"]
    assert timed == rejections + answered
    lines = eventually(lambda: [line for line in full.log() if line.get("request_id") in ("mine", made)])
    assert {(line["status"], line["path"], line["client"]) for line in lines} >= {(503, "/predict", "127.0.0.1")}


def test_a_rejected_body_that_does_not_come_is_not_waited_for(full: Server) -> None:
    def rejected() -> bytes:
        with connect(full) as connection, suppress(TimeoutError):  # it may be let in
            connection.settimeout(LINGER_SECONDS + 1)
            connection.sendall(head("POST", "/predict", "X-API-Key: secret", "Content-Length: 100") + b"x")
            reply = rest(connection)
            return reply if b"overloaded" in reply else b""
        return b""

    with crowd(full):
        reply = eventually(rejected)
    assert reply.startswith(b"HTTP/1.1 503")
    assert b"connection: close" in reply


def test_a_rejection_leaves_the_connection_open(full: Server) -> None:
    def two() -> tuple[bytes, ...]:
        with connect(full) as connection:
            replies = []
            for _ in range(2):
                connection.sendall(head("POST", "/predict", "X-API-Key: secret", f"Content-Length: {len(RED)}"))
                connection.sendall(RED)
                replies.append(reply_to(connection))
            return tuple(replies)

    with crowd(full):
        replies = eventually(lambda: [pair for pair in [two()] if b"overloaded" in pair[0]])
    assert replies[0][1].startswith((b"HTTP/1.1 503", b"HTTP/1.1 200"))
