from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import image
from tests.support.models import ADMIN
from tests.support.server import Server

RED = image("red")
TEXT = base64.b64encode(RED).decode()
LINES = base64.encodebytes(RED).decode()
JSON = {"Content-Type": "application/json"}
HALF = '"\\ud800"'
MANY = 100_000


def v1(data: Any) -> dict[str, Any]:
    return {"instances": [{"b64": data}]}


def v2(data: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "images", "shape": [1], "datatype": "BYTES", "data": [data]}]}


CALLS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "/predict": lambda data: {"image": data},
    "/predict/batch": lambda data: {"images": [data]},
    "/v1/models/colours:predict": v1,
    "/v2/models/colours/infer": v2,
}
LOAD = "/v2/repository/models/colours/load"


@pytest.fixture(scope="module")
def locked(serve: Callable[..., Server], colours: Path) -> Server:
    return serve("--models", str(colours), KERNELSCOPE_ADMIN_KEY="secret")


def post(server: Server, path: str, content: bytes, **headers: str) -> tuple[int, str]:
    got = server.client.post(path, content=content, headers={**JSON, **ADMIN, **headers})
    return got.status_code, got.text


BOMBS = {
    "unknown keys": lambda: json.dumps({f"key{number}": 1 for number in range(MANY)}),
    "empty lists": lambda: "[" + ",".join(["[]"] * MANY) + "]",
    "lists in a field": lambda: '{"inputs": [' + ",".join(["[]"] * MANY) + "]}",
    "objects": lambda: '{"images": [' + ",".join(["{}"] * MANY) + "]}",
    "strings": lambda: '{"image": [' + ",".join(['"a"'] * MANY) + "]}",
    "depth": lambda: "[" * MANY,
    "one key again": lambda: "{" + ",".join(['"inputs":0'] * MANY) + "}",
}


@pytest.mark.parametrize("path", [*CALLS, LOAD])
@pytest.mark.parametrize("bomb", BOMBS)
def test_json_that_no_request_needs_is_not_parsed(locked: Server, path: str, bomb: str) -> None:
    text = BOMBS[bomb]().encode()
    for content, encoding in ((text, "identity"), (gzip.compress(text), "gzip")):
        status, reply = post(locked, path, content, **{"Content-Encoding": encoding})
        assert status == 413, reply
        assert "64 at most" in reply or "at most: send fewer images" in reply


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_bodies_may_be_packed(server: Server, path: str, encoding: str) -> None:
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    text = json.dumps(CALLS[path](TEXT)).encode()
    headers = {"Content-Encoding": encoding.upper()}
    assert post(server, path, pack(text), **headers)[0] == 200
    assert post(server, path, pack(text)[:-9], **headers)[0] == 400
    assert post(server, path, b"text", **headers)[0] == 400
    assert post(server, path, pack(bytes(400_000)), **headers)[0] == 413
    assert post(server, path, text, **{"Content-Encoding": "br"})[0] == 415


def test_an_image_itself_may_be_packed(server: Server) -> None:
    got = server.client.post("/predict", content=gzip.compress(RED), headers={"Content-Encoding": "gzip"})
    assert got.json()["label"] == "red"


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("text", [LINES, LINES.replace("\n", "\r\n"), f" {TEXT}\t"], ids=["LF", "CRLF", "blanks"])
def test_base64_may_have_line_breaks(server: Server, path: str, text: str) -> None:
    status, reply = post(server, path, json.dumps(CALLS[path](text)).encode())
    assert status == 200
    assert "error" not in reply


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/predict", f'{{"image": {HALF}}}'),
        ("/predict", f'{{{HALF}: "x"}}'),
        ("/predict/batch", f'{{"images": [{HALF}]}}'),
        (LOAD, f'{{"parameters": {{"version": {HALF}}}}}'),
        (LOAD, f'{{"parameters": {{{HALF}: 1}}}}'),
        ("/v1/models/colours:predict", f'{{"signature_name": {HALF}, "instances": []}}'),
        ("/v1/models/colours:predict", f'{{"instances": [{{"b64": {HALF}}}]}}'),
        *(
            ("/v2/models/colours/infer", json.dumps(v2(TEXT)).replace(before, after, 1))
            for before, after in [
                ('"images"', HALF),
                ('"BYTES"', HALF),
                ('"shape": [1]', f'"shape": [1], "parameters": {{"binary_data_size": {HALF}}}'),
                ('"shape": [1]', f'"shape": {HALF}'),
                ('{"inputs"', f'{{"id": {HALF}, "inputs"'),
                ('{"inputs"', f'{{"parameters": {{"timeout": {HALF}}}, "inputs"'),
                ('{"inputs"', f'{{"outputs": [{{"name": {HALF}}}], "inputs"'),
                ('{"inputs"', f'{{"unknown": [{HALF.upper().replace("U", "u")}], "inputs"'),
            ]
        ),
    ],
)
def test_half_of_a_surrogate_pair_is_the_clients_mistake(locked: Server, path: str, text: str) -> None:
    status, reply = post(locked, path, text.encode())
    if path == "/predict/batch" and status == 200:
        assert "invalid_base64" in reply
    else:
        assert status in (400, 404, 422), reply


def test_a_whole_pair_is_text_as_any_other(server: Server) -> None:
    status, reply = post(server, "/v2/models/colours/infer", json.dumps({**v2(TEXT), "id": "\U0001f600"}).encode())
    assert (status, json.loads(reply)["id"]) == (200, "\U0001f600")


def test_pixels_as_numbers_are_taken_up_to_the_limit_of_images(server: Server) -> None:
    pixels = [[[255, 0, 0]] * 8] * 8
    assert post(server, "/v1/models/colours:predict", json.dumps({"instances": [pixels] * 8}).encode())[0] == 200
