from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from service.http.connection import HEADERS_TOO_LARGE, MAX_HEAD
from tests.support.images import image
from tests.support.server import Server, figures


def connect(server: Server) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def rest(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_the_refusal_is_as_long_as_it_says() -> None:
    head, _, body = HEADERS_TOO_LARGE.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
    assert f"{MAX_HEAD:,}".encode() in body


@pytest.mark.parametrize("head", [b"X-Long: " + b"x" * 300_000, b"X-Many: y\r\n" * 30_000])
def test_headers_without_end_are_cut_off(server: Server, head: bytes) -> None:
    with connect(server) as connection:
        reply = b""
        try:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n" + head)
            reply = rest(connection)
        except ConnectionError:
            pass  # the server had closed before all was sent, which is as good
        assert reply == b"" or reply.startswith(b"HTTP/1.1 431")
    assert server.client.get("/health/live").status_code == 200


def test_memory_does_not_grow_with_headers(server: Server) -> None:
    before = figures(server)["process_resident_memory_bytes[]"]
    for _ in range(10):
        with connect(server) as connection:
            try:
                connection.sendall(b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 5_000_000)
            except ConnectionError:
                continue
    assert figures(server)["process_resident_memory_bytes[]"] - before < 20_000_000


@pytest.mark.parametrize("said", [b"", b"GET /health HTTP/1.1\r\nX-Slow: "])
def test_a_head_that_never_ends_is_not_waited_for(serve: Callable[..., Server], colours: Path, said: bytes) -> None:
    server = serve("--models", str(colours), "--timeout", "0.3")
    with connect(server) as connection:
        connection.sendall(said)
        assert rest(connection) == b""
    assert server.client.post("/predict", content=image("blue")).json()["label"] == "blue"


def test_requests_one_after_another_on_one_connection(server: Server) -> None:
    with connect(server) as connection:
        one = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
        connection.sendall((one + b"\r\n") * 20 + one + b"Connection: close\r\n\r\n")
        assert rest(connection).count(b"HTTP/1.1 200") == 21
