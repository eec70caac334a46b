"""The fast path and FastAPI's route: whatever is asked, the replies are the same bytes, apart from ids and times.

A body that comes in chunks is never the fast path's, and means the same as one that comes whole.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from service.app import create_state
from service.http.access_log import Recorder
from service.http.auth import Gate
from service.http.context import RequestContext
from service.http.endpoint import Accounts
from service.http.fast_path import Arriving, FastCall, FastPath
from service.routes.fast import ROUTES
from service.settings import load
from service.worker_link import WorkerLink
from tests.support.bombs import run_length_bitmap
from tests.support.hot_calls import CALLS, Call
from tests.support.raw import connect, head, rest
from tests.support.server import Server, figures
from tests.support.waiting import eventually


def whole(call: Call, *lines: str) -> bytes:
    return head("POST", call.path, *call.headers, *lines, f"Content-Length: {len(call.body)}") + call.body


def chunked(call: Call, *lines: str) -> bytes:
    chunks = b"%x\r\n%b\r\n" % (len(call.body), call.body) if call.body else b""
    return head("POST", call.path, *call.headers, *lines, "Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n"


def said(server: Server, request: bytes) -> bytes:
    """The reply, without what differs from one request to the next."""
    with connect(server) as connection:
        connection.sendall(request)
        return re.sub(rb"(?m)^(date|x-request-id): .*\r\n", b"", rest(connection))


def identity(call: Call, number: int) -> str:
    return f"{call.name.replace(' ', '-')}:{number}"


@pytest.mark.parametrize("call", CALLS, ids=[call.name for call in CALLS])
def test_both_ways_say_the_same(server: Server, call: Call) -> None:
    fast = said(server, whole(call, "Connection: close"))
    assert fast == said(server, chunked(call, "Connection: close"))
    assert fast.startswith(f"HTTP/1.1 {call.status} ".encode())


def test_both_ways_are_recorded_alike(serve: Callable[..., Server], colours: Path) -> None:
    server = serve("--models", str(colours), "--max-images", "8")
    for call in CALLS:
        for number, request in enumerate((whole, chunked)):
            said(server, request(call, "Connection: close", f"X-Request-ID: {identity(call, number)}"))
    counted = figures(server)
    assert server.end() == 0
    lines = {line["request_id"]: line for line in server.log() if "request_id" in line}
    varies = {"time", "milliseconds", "request_id"}
    for call in CALLS:
        one, other = ({k: v for k, v in lines[identity(call, n)].items() if k not in varies} for n in (0, 1))
        assert one == other
        assert one["status"] == call.status
    requests = [value for name, value in counted.items() if name.startswith("kernelscope_requests_total")]
    assert sum(requests) == 2 * len(CALLS)
    assert all(value % 2 == 0 for value in requests)
    assert counted["kernelscope_requests_in_flight[]"] == 1
    for name in ("refused_images", "request_seconds_count", "shed_requests"):
        assert all(value % 2 == 0 for full, value in counted.items() if full.startswith(f"kernelscope_{name}"))


def test_both_ways_ask_for_a_key_and_count_it(serve: Callable[..., Server], colours: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text('[shop]\nkeys = ["open"]\nrequests_per_second = 0.001\nburst = 2\n')
    server = serve("--models", str(colours), "--api-keys-file", str(keys))
    call = CALLS[0]
    replies = [
        said(server, request(call, "Connection: close", *lines))
        for lines in ((), ("X-API-Key: wrong",), ("X-API-Key: open",), ("X-API-Key: open",))
        for request in (whole, chunked)
    ]
    assert [reply[9:12] for reply in replies] == [b"401"] * 4 + [b"200"] * 2 + [b"429"] * 2
    for one, other in zip(replies[::2], replies[1::2], strict=True):
        assert one.split(b"\r\n")[0] == other.split(b"\r\n")[0]
    counted = figures(server)
    assert counted["kernelscope_key_requests_total[('key', 'shop')]"] == 4
    assert counted["kernelscope_key_images_total[('key', 'shop')]"] == 2
    requests = {name: value for name, value in counted.items() if name.startswith("kernelscope_requests_total")}
    assert sorted(requests.values()) == [2, 2, 4]


# --- an image whose decoding takes longer than anybody waits

ENDLESS = Call("endless", "/predict", run_length_bitmap(), 503)
BOTH = (whole, chunked)
MEMORY = ("--image-memory", "1000000000")


def begun(server: Server, requests: int) -> None:
    """Wait until so many requests are being answered, beside the one that asks."""
    eventually(lambda: figures(server)["kernelscope_requests_in_flight[]"] == 1 + requests)


def test_both_ways_give_up_a_decode_at_the_deadline(serve: Callable[..., Server], colours: Path) -> None:
    server = serve("--models", str(colours), "--timeout", "0.5", *MEMORY)
    fast, slow = (said(server, request(ENDLESS, "Connection: close")) for request in BOTH)
    assert fast == slow
    assert fast.startswith(b"HTTP/1.1 503")
    assert b"deadline_exceeded" in fast
    assert figures(server)["kernelscope_shed_requests_total[('reason', 'deadline')]"] == 2


def test_both_ways_end_a_decode_whose_client_has_left(serve: Callable[..., Server], colours: Path) -> None:
    server = serve("--models", str(colours), "--timeout", "60", *MEMORY)
    for number, request in enumerate(BOTH):
        with connect(server) as connection:
            connection.sendall(request(ENDLESS, f"X-Request-ID: {number}"))
            begun(server, 1)
        begun(server, 0)
    assert said(server, whole(CALLS[0], "Connection: close")).startswith(b"HTTP/1.1 200")
    assert server.end() == 0
    lines = {line["request_id"]: line["status"] for line in server.log() if "request_id" in line}
    assert (lines["0"], lines["1"]) == (499, 499)
    assert not [line for line in server.lines if "Traceback" in line]


def test_both_ways_say_that_the_service_ends(serve: Callable[..., Server], colours: Path) -> None:
    server = serve("--models", str(colours), "--timeout", "60", "--drain-timeout", "1", *MEMORY)
    with connect(server) as fast, connect(server) as slow:
        for connection, request in zip((fast, slow), BOTH, strict=True):
            connection.sendall(request(ENDLESS))
        begun(server, 2)
        assert server.end() == 0
        replies = [rest(fast), rest(slow)]
    assert [b"shutting_down" in reply for reply in replies] == [True, True], replies
    assert not [line for line in server.lines if "Traceback" in line]


class Client:
    """Stands for a connection: keeps the reply."""

    client = ("127.0.0.1", 1)

    def __init__(self) -> None:
        self.sent, self.has_reply = b"", asyncio.Event()

    def send_reply(self, reply: bytes, *, close: bool) -> None:
        self.sent += reply
        self.has_reply.set()

    def default_headers(self) -> list[tuple[bytes, bytes]]:
        return []


def test_the_fast_path_takes_what_it_is_for_and_leaves_the_rest(colours: Path) -> None:
    """Else the tests above compare the route with itself."""
    settings = load(models=colours, max_images=8, workers=1, threads=1, image_memory=2**28)
    state = create_state(settings, WorkerLink())
    recorder = Recorder(state.metrics, log_requests=False)
    gate, accounts = Gate(state.keys, state.metrics), Accounts(state.metrics, None)
    fast = FastPath(ROUTES, state.registry, state.decoder, recorder, gate, accounts, settings)

    async def is_taken(call: Call) -> bool:
        lines = [line.split(": ") for line in (*call.headers, f"Content-Length: {len(call.body)}")]
        headers = [(name.lower().encode(), value.encode()) for name, value in lines]
        match, client = fast.match(call.path.encode(), headers), Client()
        if match is None:
            return False
        taken = FastCall(
            fast, client, Arriving(match, headers, RequestContext(), [call.body]), path=call.path, keep_alive=True
        )
        if not fast.answer(taken):
            return False
        await client.has_reply.wait()
        return client.sent.startswith(b"HTTP/1.1 %d " % call.status)

    async def work() -> dict[str, bool]:
        await state.group.start()
        return {call.name: await is_taken(call) for call in CALLS}

    try:
        assert asyncio.run(work()) == {call.name: call.is_fast for call in CALLS}
    finally:
        state.decoder.close()
        state.registry.close()
