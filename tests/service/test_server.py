"""The process: how soon it is ready, and what it costs."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import uvicorn

from service import sockets
from service.app import create_app, create_state
from service.http.access_log import Recorder
from service.http.connection import Connection
from service.server import KernelscopeServer
from service.settings import Settings, settled
from service.worker_link import WorkerLink
from tests.support.images import image, png_of_size
from tests.support.server import SHIPPED, Server, figures

IMPORTS = "import fastapi, onnxruntime, PIL.Image"
ROUNDS = 4
MOST_IMPORTS = 2.5
"""How many times as long as those imports alone a start may take: a slow hour slows both."""
GROWTH_BYTES = 4_000_000
"""Less than one in twenty of a round's images would leave, if it were kept."""


def test_ready_soon_after_the_imports_that_it_needs(serve: Callable[..., Server]) -> None:
    """The best of some rounds, both in turn: a busy machine slows either."""
    imports, starts = [], []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", IMPORTS], check=True)
        imports.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        server = serve("--models", str(SHIPPED.parent.parent))
        assert server.client.get("/health/ready").status_code == 200
        starts.append(time.perf_counter() - begin)
        assert server.end() == 0
    assert min(starts) / min(imports) < MOST_IMPORTS, (starts, imports)


def test_memory_does_not_grow_with_bad_input(serve: Callable[..., Server], colours: Path) -> None:
    server = serve("--models", str(colours))
    jpeg = image("red", (800, 600), "JPEG")
    bad = [
        png_of_size(50_000, 50_000),
        jpeg[: len(jpeg) // 2],
        b"x" * 1_000_000,
        b"[" * 100_000,
        image("red", (999, 700)),
    ]

    def after_a_round() -> float:
        for _ in range(20):
            for data in bad:
                server.client.post("/predict", content=data)
            server.client.post("/predict", content=bad[3], headers={"content-type": "application/json"})
            server.client.post("/predict/batch", files=[("file", data) for data in bad])
        return figures(server)["process_resident_memory_bytes[]"]

    # what leaks grows in every round; what the allocator keeps for the next time has its size after some of them
    rounds = [after_a_round() for _ in range(5)]
    growths = [after - before for before, after in pairwise(rounds)]
    assert min(growths) < GROWTH_BYTES, growths


def test_a_large_body_is_refused_before_it_is_read_whole(serve: Callable[..., Server], colours: Path) -> None:
    server = serve("--models", str(colours))
    reply = server.client.post("/predict", content=b"x" * 20_000_000)
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "too_large")
    assert server.client.post("/predict", content=image("blue")).json()["label"] == "blue"


def test_who_comes_in_last_is_told_to_leave_too(colours: Path) -> None:
    """A connection that is taken in the very turn of the loop in which the server begins to end."""
    settings = settled(Settings.model_validate({"models": colours, "workers": 1}))

    async def run(opened: socket.socket) -> bytes:
        link = WorkerLink()
        state = create_state(settings, link)
        protocol = partial(Connection, recorder=Recorder(state.metrics, log_requests=False))
        config = uvicorn.Config(create_app(state), http=protocol, log_config=None)  # type: ignore[arg-type]
        config.load()
        server = KernelscopeServer(config, state, opened, link, None)
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        with socket.create_connection(opened.getsockname()) as client:
            await asyncio.sleep(0)  # the loop has seen it now, and takes it as soon as this turn ends
            ending = asyncio.create_task(server.shutdown())
            async with asyncio.timeout(15):  # after 30 it would be closed anyhow
                await ending
            return client.recv(1)

    with sockets.listen("127.0.0.1", 0) as opened:
        assert asyncio.run(run(opened)) == b""
