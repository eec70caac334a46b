from __future__ import annotations

import http.client
import json
import os
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.http.lingering import LINGER_BYTES, LINGER_SECONDS
from tests.support.images import image
from tests.support.models import slow_bundle
from tests.support.raw import connect, head, is_closed, reply_to, rest
from tests.support.server import Server, figures
from tests.support.waiting import eventually

MEMORY = "process_resident_memory_bytes[]"
CHUNKED = head("POST", "/predict", "Transfer-Encoding: chunked")


@pytest.fixture(scope="module")
def hasty(serve: Callable[..., Server], colours: Path) -> Server:
    """A server that waits for nobody for long."""
    return serve("--models", str(colours), "--timeout", "0.5", "--max-body", "300000")


@pytest.mark.parametrize("more", [b"X-Long: " + b"x" * 300_000, b"X-Many: y\r\n" * 30_000])
def test_headers_without_end_are_cut_off(server: Server, more: bytes) -> None:
    with connect(server) as connection:
        reply = b""
        try:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n" + more)
            reply = rest(connection)
        except ConnectionError:
            pass  # the server had closed before all was sent, which is as good
        assert reply == b"" or reply.startswith(b"HTTP/1.1 431")
    assert server.client.get("/health/live").status_code == 200


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"GET / HTTP/1.1\r\nX-Long: ", b"x" * 5_000_000),
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"X-Trailer: y\r\n" * 400_000),
        (CHUNKED + b"1\r\nx\r\n0\r\nX-Trailer: ", b"y" * 5_000_000),
        (CHUNKED + b"1;", b"extension=y;" * 400_000),
        (head("GET", "/health", "Transfer-Encoding: chunked") + b"0\r\n", b"X-Trailer: y\r\n" * 400_000),
    ],
    ids=["header", "trailers", "one trailer", "chunk extension", "trailers nobody waits for"],
)
def test_memory_does_not_grow_with_what_frames_a_request(server: Server, begin: bytes, more: bytes) -> None:
    before = figures(server)[MEMORY]
    for _ in range(10):
        with connect(server) as connection:
            try:
                connection.sendall(begin + more)
            except ConnectionError:
                continue
            assert rest(connection).startswith((b"HTTP/1.1 431", b"HTTP/1.1 200"))
    assert figures(server)[MEMORY] - before < 20_000_000


def test_trailers_and_small_chunks_are_taken(server: Server) -> None:
    data = image("red")
    body = b"".join(b"1\r\n%c\r\n" % byte for byte in data * 100)
    with connect(server) as connection:
        connection.sendall(head("POST", "/predict", "Transfer-Encoding: chunked", "Connection: close"))
        connection.sendall(body + b"0;x=y\r\nX-Sum: 1\r\n\r\n")
        assert rest(connection).startswith(b"HTTP/1.1 200")


def test_a_trailer_is_no_header(serve: Callable[..., Server], colours: Path) -> None:
    server = serve("--models", str(colours), KERNELSCOPE_API_KEYS="secret")
    with connect(server) as connection:
        connection.sendall(head("POST", "/predict", "Transfer-Encoding: chunked", "Connection: close"))
        connection.sendall(b"0\r\nX-API-Key: secret\r\n\r\n")
        assert rest(connection).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        (b"", b""),
        (b"GET /health HTTP/1.1\r\nX-Slow: ", b"HTTP/1.1 408"),
        (head("POST", "/predict", "Content-Length: 100") + b"x", b"HTTP/1.1 408"),
        (head("POST", "/predict/batch?timeout=3600", "Content-Length: 100") + b"x", b"HTTP/1.1 408"),
        (head("POST", "/v2/models/colours/infer", "Transfer-Encoding: chunked") + b"1\r\nx", b"HTTP/1.1 408"),
        (head("POST", "/v1/models/colours:predict", "Content-Length: 100"), b"HTTP/1.1 408"),
    ],
    ids=["nothing", "head", "body", "batch", "chunk", "no body"],
)
def test_a_request_that_never_ends_is_not_waited_for(hasty: Server, said: bytes, reply: bytes) -> None:
    with connect(hasty) as connection:
        connection.sendall(said)
        assert rest(connection).startswith(reply)
    assert hasty.client.post("/predict", content=image("blue")).json()["label"] == "blue"


@pytest.mark.parametrize(("path", "status"), [("/nothing", 404), ("/predict", 413)])
def test_a_body_that_drips_after_the_reply_ends(server: Server, path: str, status: int) -> None:
    with connect(server) as connection:
        connection.sendall(head("POST", path, "Content-Length: 1000000") + b"x")
        reply = rest(connection)
        assert reply.startswith(f"HTTP/1.1 {status}".encode())
        assert b"connection: close" in reply
        eventually(lambda: is_closed(connection), seconds=3 * LINGER_SECONDS)


def test_a_body_is_not_swallowed_for_ever(server: Server) -> None:
    sent, block = 0, bytes(2**20)
    with connect(server) as connection:
        connection.sendall(head("POST", "/predict", "Transfer-Encoding: chunked"))
        try:
            while sent < 4 * LINGER_BYTES:
                connection.sendall(b"%x\r\n%b\r\n" % (len(block), block))
                sent += len(block)
        except ConnectionError:
            pass
    assert sent < 2 * LINGER_BYTES


@pytest.mark.parametrize("attempt", range(3))
def test_urllib_reads_an_early_reply(server: Server, attempt: int) -> None:
    """It sends the whole body before it reads; a connection that is closed meanwhile would be reset."""
    asked = urllib.request.Request(  # noqa: S310 -- the server's own address
        server.url + "/predict", bytes(20_000_000), {"Content-Type": "image/png"}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(asked, timeout=30)  # noqa: S310
    with caught.value as reply:
        assert (reply.code, json.load(reply)["error"]["code"]) == (413, "too_large")


def test_requests_one_after_another_on_one_connection(server: Server) -> None:
    with connect(server) as connection:
        one = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
        connection.sendall((one + b"\r\n") * 20 + one + b"Connection: close\r\n\r\n")
        assert rest(connection).count(b"HTTP/1.1 200") == 21


# --- offers and expectations

OFFERS = {
    "h2c": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
    "websocket": ("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x"),
    "tls": ("Upgrade: TLS/1.3", "Connection: upgrade"),
}


@pytest.mark.parametrize("offer", list(OFFERS))
@pytest.mark.parametrize("in_pieces", [False, True])
def test_an_offer_of_another_protocol_is_passed_over(server: Server, offer: str, in_pieces: bool) -> None:
    data = image("green")
    whole = (
        head("POST", "/predict", *OFFERS[offer], f"Content-Length: {len(data)}")
        + data
        + head("POST", "/predict", *OFFERS[offer], "Transfer-Encoding: chunked")
        + b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
        + head("GET", "/health/live", *OFFERS[offer])
        + head("GET", "/health/live", "Connection: close")
    )
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(whole), 50 if in_pieces else len(whole)):
            connection.sendall(whole[start : start + (50 if in_pieces else len(whole))])
        reply = rest(connection)
    assert reply.count(b"HTTP/1.1 200") == 4, reply
    assert reply.count(b'"label":"green","index"') >= 2


def test_connect_is_refused(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert rest(connection).startswith(b"HTTP/1.1 400")


def expecting(length: int, version: str = "1.1") -> bytes:
    said = head("POST", "/predict", f"Content-Length: {length}", "Expect: 100-continue", "Connection: close")
    return said.replace(b"HTTP/1.1", f"HTTP/{version}".encode())


def test_who_expects_to_be_told_to_continue_is_told(server: Server) -> None:
    data = image("green")
    with connect(server) as connection:
        connection.sendall(expecting(len(data)))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(data)
        assert rest(connection).startswith(b"HTTP/1.1 200")


def test_who_need_not_continue_is_not_told_to(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(expecting(10_000_000))
        reply = rest(connection)
    assert reply.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in reply
    data = image("green")
    for said in (expecting(len(data)) + data, expecting(len(data), "1.0") + data):  # it is here, or is HTTP/1.0
        with connect(server) as connection:
            connection.sendall(said)
            assert rest(connection).startswith(b"HTTP/1.1 200")


# --- who leaves, and how many come


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/v1/models/colours:predict"])
def test_a_client_that_leaves_while_it_uploads_is_one_line(
    serve: Callable[..., Server], colours: Path, path: str
) -> None:
    server = serve("--models", str(colours))
    with connect(server) as connection:
        connection.sendall(head("POST", path, "Content-Length: 1000", "X-Request-ID: leaver") + b"x")
        eventually(lambda: figures(server)["kernelscope_requests_in_flight[]"] >= 2)
    eventually(lambda: figures(server)["kernelscope_requests_in_flight[]"] == 1)
    assert server.end() == 0
    (line,) = [line for line in server.log() if line.get("request_id") == "leaver"]
    assert line["status"] == 499
    assert not [text for text in server.lines if not text.startswith("{") or "Traceback" in text]


def test_the_longest_idle_connection_makes_room(serve: Callable[..., Server], colours: Path) -> None:
    server = serve("--models", str(colours), "--max-connections", "4")
    server.client.close()
    with ExitStack() as stack:
        idle = [stack.enter_context(connect(server)) for _ in range(4)]
        for connection in idle:
            connection.sendall(head("GET", "/health/live"))
            assert reply_to(connection).startswith(b"HTTP/1.1 200")
        with connect(server) as newest:
            newest.sendall(head("POST", "/predict", "Content-Length: 0", "Connection: close"))
            assert rest(newest).startswith(b"HTTP/1.1 400")
        assert rest(idle[0]) == b""
        idle[1].sendall(head("GET", "/health/live"))
        assert reply_to(idle[1]).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n", head("POST", "/predict", "Content-Length: 9") + b"x"])
def test_silent_connections_shut_nobody_out(serve: Callable[..., Server], colours: Path, said: bytes) -> None:
    server = serve("--models", str(colours), "--max-connections", "20")
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connect(server)).sendall(said)
        assert server.client.post("/predict", content=image("red")).status_code == 200


def test_where_all_connections_are_busy_a_new_one_is_told_so(serve: Callable[..., Server], tmp_path: Path) -> None:
    slow_bundle(tmp_path, seconds=1)
    server = serve("--models", str(tmp_path), "--max-connections", "1", "--max-batch-size", "1")
    data = image("red")
    with connect(server) as busy:
        busy.sendall(head("POST", "/predict", f"Content-Length: {len(data)}", "Connection: close") + data)

        def told() -> bytes:
            with connect(server) as other:
                return rest(other)

        assert eventually(told).startswith(b"HTTP/1.1 503")
        assert rest(busy).startswith(b"HTTP/1.1 200")


def test_an_idle_connection_is_kept_as_long_as_is_said(serve: Callable[..., Server], colours: Path) -> None:
    server = serve("--models", str(colours), "--keep-alive", "1", "--timeout", "60")
    with connect(server) as connection:
        connection.sendall(head("GET", "/health/live"))
        assert rest(connection).startswith(b"HTTP/1.1 200")  # it ends by itself


# --- where it listens


@pytest.fixture
def unix(serve: Callable[..., Server], colours: Path, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "kernelscope.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    server = serve("--models", str(colours), "--host", f"unix:{path}")
    yield path
    assert server.end() == 0
    assert not path.exists()


def test_a_unix_socket_is_listened_on(unix: Path) -> None:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(os.fspath(unix))
    connection.request("POST", "/predict", image("red"))
    assert json.load(connection.getresponse())["label"] == "red"
    connection.close()


# --- what is said at the connection

BROKEN = b"this is not HTTP\r\n\r\n"


@pytest.mark.parametrize("path", ["/predict", "/predict?top_k=1"])
@pytest.mark.parametrize("count", [1, 3])
def test_what_came_before_a_broken_request_is_answered(server: Server, path: str, count: int) -> None:
    data = image("green")
    valid = head("POST", path, f"Content-Length: {len(data)}") + data
    with connect(server) as connection:
        connection.sendall(valid * count + BROKEN + b"x" * 1000)
        replies = rest(connection)
    assert re.findall(rb"HTTP/1.1 (\d+)", replies) == [b"200"] * count + [b"400"]
    assert replies.count(b'"label":"green","index"') >= count


def test_a_broken_body_does_not_take_the_reply_to_an_earlier_request(server: Server) -> None:
    data = image("green")
    valid = head("POST", "/predict?top_k=1", f"Content-Length: {len(data)}") + data
    with connect(server) as connection:
        connection.sendall(valid * 2 + head("POST", "/predict", "Transfer-Encoding: chunked") + b"zz\r\n")
        assert re.findall(rb"HTTP/1.1 (\d+)", rest(connection)) == [b"200", b"200", b"400"]


@pytest.mark.parametrize(
    ("said", "status", "path"),
    [
        (BROKEN, 400, "-"),
        (head("GET", "/health/live", "X-Request-ID: mine", "X-Long: " + "x" * 100_000)[:-4], 431, "/health/live"),
        (b"GET /slow HTTP/1.1\r\nX-Request-ID: mine\r\nHost: x\r\n", 408, "/slow"),
        (head("POST", "/predict", "X-Request-ID: mine", "Transfer-Encoding: chunked") + b"zz\r\n", 400, "/predict"),
    ],
    ids=["broken", "long", "slow", "broken chunk"],
)
def test_replies_made_at_the_connection_have_an_id_a_line_and_figures(
    serve: Callable[..., Server], colours: Path, said: bytes, status: int, path: str
) -> None:
    server = serve("--models", str(colours), "--timeout", "0.5")
    with connect(server) as connection:
        connection.sendall(said)
        reply = rest(connection)
    assert reply.startswith(b"HTTP/1.1 %d " % status)
    (identity,) = re.findall(rb"x-request-id: (\S+)", reply)
    assert identity == b"mine" or b"mine" not in said
    counted = {name: value for name, value in figures(server).items() if "'code', '" + str(status) in name}
    assert list(counted.values()) == [1]
    assert server.end() == 0
    (line,) = [line for line in server.log() if line.get("request_id") == identity.decode()]
    assert (line["status"], line["path"], line["client"]) == (status, path, "127.0.0.1")
