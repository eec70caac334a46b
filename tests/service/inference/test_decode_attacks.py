"""Images that take far more than their bytes suggest, sent to a real server, and what becomes of everyone else."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.decode_bombs import BOMBS, empty_webp, large_png, photograph, repeated_scans
from tests.support.group import is_alive
from tests.support.server import Server, figures
from tests.support.waiting import eventually

AT_ONCE = 8
ATTACK_SECONDS = 4
PHOTOGRAPH_SECONDS = 2.0
LIVE_SECONDS = 0.4
GROWTH = 250e6
NO_LONGER = "kernelscope_ended_decodes_total[('reason', 'no_longer_awaited')]"


def children(pid: int) -> list[int]:
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [int(one) for one in found]


def family(pid: int) -> list[int]:
    """A process and all that come from it."""
    return [pid, *(one for child in children(pid) for one in family(child))]


def memory(pid: int) -> int:
    """Bytes that a process and all that come from it take, shared pages once."""
    total = 0
    for one in family(pid):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def decode_servers(server: Server) -> list[int]:
    """The processes that fork one for each image."""
    return [pid for pid in family(server.process.pid) if b"decode_server" in command_line(pid)]


def decoders(server: Server) -> list[int]:
    """The processes that decode an image now."""
    return [fork for pid in decode_servers(server) for fork in children(pid)]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def seconds(call: Callable[[], httpx.Response]) -> float:
    start = time.perf_counter()
    assert call().status_code == 200
    return time.perf_counter() - start


@contextmanager
def attack(server: Server, data: bytes, *, timeout: float, count: int = AT_ONCE) -> Iterator[list[httpx.Response]]:
    """Send an image several times at once; their replies are there at the end."""
    replies: list[httpx.Response] = []

    def send() -> None:
        url = f"{server.url}/predict?timeout={timeout}"
        replies.append(httpx.post(url, content=data, timeout=60))

    with ThreadPoolExecutor(count) as pool:
        sent = [pool.submit(send) for _ in range(count)]
        yield replies
        for one in sent:
            one.result()


@pytest.fixture(scope="module")
def attacked(serve: Callable[..., Server], colours: Path) -> Server:
    """One process, with the defaults."""
    server = serve("--models", str(colours))
    # the decode server is started when it is first needed, and stays
    assert server.client.post("/predict", content=empty_webp()).status_code == 413
    return server


@pytest.mark.parametrize("name", BOMBS)
def test_others_are_answered_during_an_attack(attacked: Server, name: str) -> None:
    data, photo, client = BOMBS[name](), photograph(), attacked.client

    def ask() -> httpx.Response:
        return client.post("/predict", content=photo)

    def live() -> httpx.Response:
        return client.get("/health/live")

    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # other work shares each core with so many
    before, most = memory(attacked.process.pid), 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.05):
            most = max(most, memory(attacked.process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with attack(attacked, data, timeout=ATTACK_SECONDS) as replies:
            until = time.monotonic() + ATTACK_SECONDS
            while time.monotonic() < until and len(replies) < AT_ONCE:
                assert seconds(ask) < busy * PHOTOGRAPH_SECONDS
                assert seconds(live) < busy * LIVE_SECONDS
                assert client.get("/health/ready").status_code == 200
    finally:
        done.set()
        watcher.join()
    assert {one.status_code for one in replies} <= {200, 413, 503}
    assert most - before < GROWTH
    eventually(lambda: memory(attacked.process.pid) - before < GROWTH / 10)
    eventually(lambda: not decoders(attacked))


def test_what_does_not_fit_the_budget_is_refused_and_told_the_limit(attacked: Server) -> None:
    refused = attacked.client.post("/predict", content=empty_webp())
    assert refused.status_code == 413
    assert "KERNELSCOPE_IMAGE_MEMORY" in refused.json()["error"]["message"]


def test_the_limit_of_processor_time_is_told(serve: Callable[..., Server], colours: Path) -> None:
    server = serve("--models", str(colours), "--max-decode-seconds", "1")
    refused = server.client.post("/predict", content=repeated_scans())
    assert refused.status_code == 413
    assert "KERNELSCOPE_MAX_DECODE_SECONDS" in refused.json()["error"]["message"]
    assert figures(server)["kernelscope_ended_decodes_total[('reason', 'processor_time')]"] == 1


def test_a_deadline_ends_the_decoding_and_frees_its_place(attacked: Server) -> None:
    late = attacked.client.post("/predict?timeout=0.5", content=repeated_scans())
    assert (late.status_code, late.json()["error"]["code"]) == (503, "deadline_exceeded")
    eventually(lambda: not decoders(attacked))


def test_a_client_that_leaves_ends_the_decoding(attacked: Server) -> None:
    data, before = repeated_scans(), figures(attacked)[NO_LONGER]
    host, port = attacked.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as leaves:
        leaves.sendall(f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        eventually(lambda: decoders(attacked))
    eventually(lambda: not decoders(attacked), seconds=10)
    assert figures(attacked)[NO_LONGER] > before


@pytest.mark.parametrize("whom", ["the fork", "the decode server"])
def test_a_decoder_that_is_killed_is_replaced(attacked: Server, whom: str) -> None:
    with attack(attacked, repeated_scans(), timeout=30, count=1) as replies:
        (fork,) = eventually(lambda: decoders(attacked))
        (server,) = (pid for pid in decode_servers(attacked) if fork in children(pid))
        os.kill(fork if whom == "the fork" else server, signal.SIGKILL)
    assert [(one.status_code, one.json()["error"]["code"]) for one in replies] == [(503, "decoder_lost")]
    eventually(lambda: not is_alive(fork))
    assert attacked.client.post("/predict", content=large_png()).status_code == 200


def test_sigterm_ends_whatever_is_decoded(serve: Callable[..., Server], colours: Path) -> None:
    server = serve("--models", str(colours), "--drain-timeout", "1")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(httpx.post, server.url + "/predict", content=repeated_scans(), timeout=60)
        eventually(lambda: decoders(server))
        everyone = family(server.process.pid)
        assert server.end() == 0
    eventually(lambda: not any(map(is_alive, everyone)), seconds=10)


def test_a_server_that_is_killed_leaves_no_decoder(serve: Callable[..., Server], colours: Path) -> None:
    server = serve("--models", str(colours))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(httpx.post, server.url + "/predict", content=repeated_scans(), timeout=60)
        eventually(lambda: decoders(server))
        rest = family(server.process.pid)[1:]
        server.process.kill()
        server.process.wait()
    eventually(lambda: not any(map(is_alive, rest)), seconds=10)


def test_bodies_wait_for_memory_and_a_photograph_does_not(serve: Callable[..., Server], colours: Path) -> None:
    server = serve("--models", str(colours), "--timeout", "6")
    host, port = server.url.removeprefix("http://").split(":")
    before = memory(server.process.pid)
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 16000000\r\n\r\n"
    sockets = []
    for _ in range(30):
        sockets.append(socket.create_connection((host, int(port))))
        sockets[-1].setblocking(False)
        sockets[-1].send(head)
    rest = {one: memoryview(bytes(15_000_000)) for one in sockets}
    until = time.monotonic() + 3
    while time.monotonic() < until:
        for one in sockets:
            try:
                rest[one] = rest[one][one.send(rest[one][: 2**20]) :]
            except BlockingIOError:
                continue
    assert memory(server.process.pid) - before < GROWTH / 3
    assert seconds(lambda: server.client.post("/predict", content=photograph())) < PHOTOGRAPH_SECONDS
    one = sockets[-1]
    one.settimeout(30)
    assert one.recv(1000).startswith((b"HTTP/1.1 503", b"HTTP/1.1 408"))
    for one in sockets:
        one.close()
