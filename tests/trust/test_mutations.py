"""Mutated bodies to every endpoint: no 5xx but a rejection for want of capacity, no death, every good answer right.

How many are sent is set by KERNELSCOPE_TRUST_BODIES: 4,000 here, 100,000 in `make test-trust`.
"""

from __future__ import annotations

import collections
import http.client
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.group import workers
from tests.support.mutation import Bodies, Body
from tests.support.server import ROOT, Server, figures

BODIES = int(os.environ.get("KERNELSCOPE_TRUST_BODIES", "4000"))
CLIENTS = 4
ADMIN = {"authorization": "Bearer secret"}
LEAST_SHARE = 0.2
"""Of the bodies, this part at least reaches a decoder, the model, and a JSON parser each."""
MOST_GROWTH = 250_000_000


@pytest.fixture(scope="module")
def victim(serve: Callable[..., Server]) -> Server:
    # the admin key is set and never sent: a stranger has none
    return serve("--workers", "2", "--log-requests", "false", KERNELSCOPE_ADMIN_KEY="secret", KERNELSCOPE_WATCH="0")


def resident(server: Server) -> int:
    pages = (Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in workers(server))
    return sum(int(count) for count in pages) * os.sysconf("SC_PAGE_SIZE")


def counted(server: Server) -> dict[str, float]:
    """How many images have reached a decoder and the model so far."""
    page = figures(server)

    def total(*names: str) -> float:
        return sum(value for key, value in page.items() if key.startswith(names))

    return {
        "decoder": total("kernelscope_decode_seconds_count", "kernelscope_refused_images_total"),
        "model": total("kernelscope_batch_size_images_sum"),
    }


def send(connection: http.client.HTTPConnection, body: Body) -> tuple[int, bytes]:
    connection.request("POST", body.path, body.content, body.headers)
    reply = connection.getresponse()
    return reply.status, reply.read()


def test_no_mutated_body_brings_it_down(victim: Server) -> None:
    document = victim.client.get("/openapi.json").json()
    model = victim.client.get("/models").json()["models"][0]
    pids, before, memory = workers(victim), counted(victim), resident(victim)
    statuses: collections.Counter[int] = collections.Counter()
    reached: collections.Counter[str] = collections.Counter()
    faults: list[str] = []
    attacked: set[str] = set()

    def attack(seed: int) -> None:
        size = model["height"], model["width"]
        bodies = Bodies(document, model["name"], str(model["version"]), size, seed)
        attacked.update(bodies.paths)
        host, port = victim.url.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        for _ in range(BODIES // CLIENTS):
            body = bodies.make()
            try:
                status, reply = send(connection, body)
            except (http.client.HTTPException, OSError) as error:
                connection.close()  # a connection may be ended after a reply; the next body opens another
                faults.append(f"{body.path}: no reply to {body.content[:80]!r}: {error!r}")
                continue
            statuses[status] += 1
            if body.headers["content-type"] == "application/json":
                reached["parser"] += 1
            if status >= 500 and status != 503:
                faults.append(f"{body.path}: {status} for {body.content[:200]!r}: {reply[:200]!r}")
            if status >= 400:
                json.loads(reply)
        connection.close()

    threads = [threading.Thread(target=attack, args=(seed,)) for seed in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent = BODIES // CLIENTS * CLIENTS
    after = counted(victim)
    shares = {name: (after[name] - before[name]) / sent for name in after} | {"parser": reached["parser"] / sent}
    print(f"{sent:,} bodies to {len(attacked)} paths: {dict(sorted(statuses.items()))}; reached: {shares}")
    assert not faults, faults[:5]
    assert workers(victim) == pids
    assert all(share >= LEAST_SHARE for share in shares.values()), shares
    assert statuses[200] > sent / 10
    assert resident(victim) - memory < MOST_GROWTH
    with (ROOT / "examples" / "cat.jpg").open("rb") as cat:
        assert httpx.post(victim.url + "/predict", files={"file": cat}).json()["label"] == "cat"
