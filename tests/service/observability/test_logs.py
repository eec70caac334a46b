"""What a server writes: lines that nobody has to read, and nothing but lines."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from service.observability.log_writer import DirectWriter, QueuedWriter
from service.observability.text import escaped
from tests.support.images import image
from tests.support.raw import connect, rest
from tests.support.server import ROOT, Server, command, figures
from tests.support.waiting import eventually

LINE = b"x" * 1023 + b"\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def said(count: int) -> bytes:
    return f"{count} dropped\n".encode()


def test_a_full_pipe_holds_nobody_up_and_what_is_lost_is_said(pipe: tuple[int, int]) -> None:
    writer = QueuedWriter(pipe[1], said)
    for _ in range(20_000):  # 20 MB, of which 64 kB fit into the pipe and a few MB wait
        writer.write(LINE)
    got = b""
    while b"dropped" not in got:
        got += os.read(pipe[0], 65536)
    writer.close()
    (count,) = map(int, re.findall(rb"(\d+) dropped", got))
    assert got.count(LINE) + count == 20_000
    assert count > 10_000


def test_the_end_waits_for_nobody_who_does_not_read(pipe: tuple[int, int]) -> None:
    writer = QueuedWriter(pipe[1], said)
    for _ in range(1000):
        writer.write(LINE)
    writer.close()  # the test's own time limit is what fails here
    received = 0
    while received < 1000:  # the thread can end, and all that was queued has been written
        received += os.read(pipe[0], 65536).count(b"\n")


def test_a_process_without_threads_drops_what_does_not_fit(pipe: tuple[int, int]) -> None:
    writer = DirectWriter(pipe[1], said)
    for _ in range(100):
        writer.write(LINE)
    got = os.read(pipe[0], 2**20)
    writer.write(b"again\n")
    lines = (got + os.read(pipe[0], 2**20)).splitlines()
    assert lines[-2:] == [f"{100 - len(lines) + 2} dropped".encode(), b"again"]


@pytest.mark.parametrize(
    "character",
    ["\x00", "\x1b", "\n", "\x7f", "\x85", "\x9b", "\u2028", "\u2029", "\u202e", "\u2066", "\ufeff", "\ud800"],
)
def test_what_is_no_letter_is_escaped(character: str) -> None:
    assert escaped(f"é{character}😀") == f"é\\u{ord(character):04x}😀"


def test_a_server_whose_log_nobody_reads_goes_on_and_ends(colours: Path) -> None:
    environment = {"KERNELSCOPE_WORKERS": "1", **os.environ}
    words = command("serve", "--port", "0", "--models", str(colours))
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT, env=environment
    ) as process:
        assert process.stdout is not None
        url = next(found[1] for line in process.stdout if (found := re.search(rb"on (http://[^ ]+)", line)))
        with httpx.Client(base_url=url.decode(), timeout=10) as client:
            for _ in range(100):
                assert client.get("/" + "x" * 8000).status_code == 404
            assert client.get("/health/ready").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def not_json(server: Server) -> list[str]:
    return [line for line in server.lines if not line.startswith("{") or not json.loads(line)]


def a_broken_tiff() -> bytes:
    """One that libtiff has something to say of."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "TIFF", compression="tiff_lzw")
    data = bytearray(file.getvalue())
    data[8:40] = bytes(range(200, 232))
    return bytes(data)


def test_everything_that_a_server_prints_is_json(serve: Callable[..., Server], colours: Path) -> None:
    server = serve("--models", str(colours))
    server.client.post("/predict", content=a_broken_tiff())
    with connect(server) as connection:
        connection.sendall(b"\x16\x03\x01 this is TLS\r\n\r\n")
        assert rest(connection).startswith(b"HTTP/1.1 400")
    server.client.get("/%E2%80%A8%C2%9B%1B[2J")
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    (worker,) = map(int, children.split())
    os.kill(worker, signal.SIGSEGV)
    eventually(lambda: any("starting it anew" in line for line in server.lines))

    def is_back() -> bool:
        try:
            return figures(server)["kernelscope_requests_in_flight[]"] == 1
        except httpx.TransportError:
            return False

    eventually(is_back)
    assert server.client.post("/predict", content=image("red")).status_code == 200
    assert server.end() == 0
    assert not_json(server) == []
    printed = [line["message"] for line in server.log() if line.get("source") == "output"]
    assert any("Segmentation fault" in text for text in printed), printed
    assert not [line for line in server.lines if re.search("[\u2028\x9b\x1b]", line)]
