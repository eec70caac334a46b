"""Hostile requests: what two parsers would read differently, and connections that do not come to an end."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.support import smuggling
from tests.support.group import workers
from tests.support.raw import connect, head, is_closed, rest
from tests.support.server import Server
from tests.support.waiting import eventually

EACH = 8
"""Connections of each kind that does not end."""
LONGEST_SECONDS = 20.0
TIMEOUT = 3
_OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"


@pytest.fixture(scope="module")
def victim(serve: Callable[..., Server]) -> Server:
    return serve("--workers", "2", "--timeout", str(TIMEOUT), KERNELSCOPE_KEEP_ALIVE=str(TIMEOUT))


@pytest.mark.parametrize("offer", [b"", _OFFER], ids=["", "h2c"])
@pytest.mark.parametrize("name", smuggling.REFUSED)
def test_a_request_that_may_hide_another_is_refused(victim: Server, name: str, offer: bytes) -> None:
    request = smuggling.REFUSED[name].replace(b"Host: x\r\n", b"Host: x\r\n" + offer, 1)
    with connect(victim) as connection:
        connection.sendall(request)
        replies = rest(connection)
    assert replies.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431")), replies
    assert replies.count(b"HTTP/1.1 ") == 1
    assert not any("/smuggled" in line for line in victim.lines)


def test_pipelined_requests_are_answered_in_order(victim: Server) -> None:
    paths = ["/health/live", "/models", "/nothing", "/health/ready"] * 10
    with connect(victim) as connection:
        connection.sendall(b"".join(head("GET", path) for path in paths) + head("GET", "/", "Connection: close"))
        connection.sendall(smuggling.INNER)
        replies = rest(connection).split(b"HTTP/1.1 ")[1:]
    assert [int(reply[:3]) for reply in replies] == [200, 200, 404, 200] * 10 + [200]


def test_every_connection_ends(victim: Server) -> None:
    """Whatever has been sent, and however slowly more comes."""
    body, chunked = "Content-Length: 1000000", "Transfer-Encoding: chunked"
    said = {
        "nothing": b"",
        "half a head": b"GET /health HTTP/1.1\r\nX-Slow: ",
        "a body to nowhere": head("POST", "/nothing", body) + b"x",
        "a body that is too long": head("POST", "/predict", "Content-Length: 100000000000") + b"x",
        "chunks that are too long": head("POST", "/nothing", chunked) + b"ffffffff\r\nx",
        "a body that does not come": head("POST", "/predict", body),
        "a body that waits for leave": head("POST", "/predict", body, "Expect: 100-continue"),
        "chunks that do not come": head("POST", "/predict", chunked) + b"ffff\r\nx",
        "a trailer": head("POST", "/predict", chunked) + b"0\r\nX: ",
        "replies that nobody reads": head("GET", "/openapi.json") * 300,
        "a request, and silence": head("GET", "/health/live"),
    }
    with ExitStack() as stack:
        opened = [(kind, _say(stack, victim, first)) for kind, first in said.items() for _ in range(EACH)]
        began = time.monotonic()
        open_ones = opened

        def all_have_ended() -> bool:
            nonlocal open_ones
            open_ones = [(kind, connection) for kind, connection in open_ones if not _has_ended(kind, connection)]
            return not open_ones

        try:
            eventually(all_have_ended, seconds=LONGEST_SECONDS)
        except AssertionError:
            kinds = {kind: sum(one == kind for one, _ in open_ones) for kind, _ in open_ones}
            pytest.fail(f"open after {time.monotonic() - began:.0f} s: {kinds}")
    assert len(workers(victim)) == 2
    assert victim.client.get("/health/ready").status_code == 200


def _say(stack: ExitStack, server: Server, first: bytes) -> socket.socket:
    connection = stack.enter_context(connect(server))
    connection.sendall(first)
    connection.setblocking(False)
    return connection


def _has_ended(kind: str, connection: socket.socket) -> bool:
    """Whether the server has ended a connection; one that is to drip gets another byte to find out."""
    if kind in ("nothing", "a request, and silence"):
        try:
            deque(iter(lambda: connection.recv(65536), b""), maxlen=0)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True
    try:
        return is_closed(connection)
    except BlockingIOError:
        return False
