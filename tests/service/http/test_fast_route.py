from __future__ import annotations

import base64
import json

import httpx
import pytest

from tests.support.images import image
from tests.support.server import Server

RED = image("red")
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (RED, {}),
        (RED, {"Content-Type": "image/png"}),
        (json.dumps({"image": base64.b64encode(RED).decode()}).encode(), JSON),
        (b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + RED + b"\r\n--x--\r\n", FORM),
        (b"", {}),
        (b"text", {}),
        (RED[:60], {}),
        (b"{", JSON),
        (b"{}", JSON),
        (b"--x", FORM),
        (RED, {"Content-Type": "text/plain"}),
        (bytes(300_001), {}),
    ],
    ids=["raw", "png", "json", "form", "empty", "text", "cut", "no json", "other json", "no form", "type", "too large"],
)
def test_the_short_way_answers_as_fastapis_own(server: Server, content: bytes, headers: dict[str, str]) -> None:
    def reply(path: str) -> tuple[int, dict[str, str], bytes]:
        got = server.client.post(path, content=content, headers=headers)
        # whether a refusal comes before its body, and so closes the connection, is up to the network
        varies = {"date", "x-request-id", "connection"}
        return got.status_code, {k: v for k, v in got.headers.items() if k not in varies}, got.content

    assert reply("/predict") == reply("/predict?top_k=3")


def test_it_is_counted_under_the_routes_own_name(server: Server) -> None:
    def count() -> float:
        lines = httpx.get(server.url + "/metrics").text.splitlines()
        name = 'kernelscope_requests_total{code="200",method="POST",model="colours",route="/predict",version="1"}'
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    before = count()
    server.client.post("/predict", content=RED)
    server.client.post("/predict?top_k=1", content=RED)
    assert count() == before + 2


def test_other_methods_are_refused_as_before(server: Server) -> None:
    got = server.client.get("/predict")
    assert (got.status_code, got.headers["allow"]) == (405, "POST")
