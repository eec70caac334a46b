"""The V2 protocol, with Triton's own client as it is published, and with what no client would send."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import zlib
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.utils import InferenceServerException

from tests.support.images import image, pixels
from tests.support.models import COLOURS
from tests.support.server import Server

INFER = "/v2/models/colours/infer"


@pytest.fixture(scope="module")
def client(server: Server) -> Any:
    made = triton.InferenceServerClient(server.url.removeprefix("http://"))
    yield made
    made.close()


def tensor(data: np.ndarray, *, binary: bool, datatype: str = "UINT8") -> triton.InferInput:
    made = triton.InferInput("images", list(data.shape), datatype)
    made.set_data_from_numpy(data, binary_data=binary)
    return made


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_pixels(client: Any, binary_in: bool, binary_out: bool, compression: str | None) -> None:
    result = client.infer(
        "colours",
        [tensor(pixels("red", "blue", "green"), binary=binary_in)],
        outputs=[triton.InferRequestedOutput("probabilities", binary_data=binary_out)],
        request_id="seven",
        request_compression_algorithm=compression,
    )
    probabilities = result.as_numpy("probabilities")
    assert probabilities.shape == (3, 3)
    assert probabilities.argmax(1).tolist() == [0, 2, 1]
    assert probabilities.dtype == np.float32
    assert result.get_response()["id"] == "seven"
    assert result.get_response()["model_version"] == "1"


def test_encoded_images(client: Any) -> None:
    sent = np.array([image("green", (30, 20), "JPEG"), image("red")], dtype=np.object_)
    result = client.infer("colours", [tensor(sent, binary=True, datatype="BYTES")], model_version="1")
    assert result.as_numpy("probabilities").argmax(1).tolist() == [1, 0]


@pytest.mark.parametrize("binary", [True, False])
def test_classification(client: Any, binary: bool) -> None:
    wanted = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)
    result = client.infer("colours", [tensor(pixels("blue", "red"), binary=True)], outputs=[wanted])
    rows = result.as_numpy("probabilities")
    assert rows.shape == (2, 2)
    texts = [row[0].decode() if isinstance(row[0], bytes) else row[0] for row in rows]
    assert [text.split(":")[1:] for text in texts] == [["2", "blue"], ["0", "red"]]


def test_a_raw_request_is_pixels_or_an_image(server: Server) -> None:
    header = {"Inference-Header-Content-Length": "0"}
    for content, label in ((pixels("green").tobytes(), 1), (image("blue", (40, 40), "JPEG"), 2)):
        reply = server.client.post(INFER, content=content, headers=header)
        length = int(reply.headers["inference-header-content-length"])
        assert np.frombuffer(reply.content[length:], "<f4").argmax() == label


def test_json_numbers_flat_or_nested_and_base64(server: Server) -> None:
    for data in (pixels("red").ravel().tolist(), pixels("red").tolist()):
        asked = {"inputs": [{"name": "images", "shape": [1, 8, 8, 3], "datatype": "UINT8", "data": data}]}
        (output,) = server.client.post(INFER, json=asked).json()["outputs"]
        assert output["shape"] == [1, 3]
        assert np.argmax(output["data"]) == 0
    text = base64.b64encode(image("green")).decode()
    asked = {"inputs": [{"name": "images", "shape": [1], "datatype": "BYTES", "data": [text]}]}
    assert np.argmax(server.client.post(INFER, json=asked).json()["outputs"][0]["data"]) == 1


def test_metadata_readiness_config_and_stats(client: Any, server: Server) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("colours")
    assert client.is_model_ready("colours", "1")
    assert not client.is_model_ready("shapes")
    assert not client.is_model_ready("colours", "9")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    found = client.get_model_metadata("colours")
    assert found["versions"] == ["1"]
    assert found["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 8, 8, 3]}]
    assert found["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}]
    assert client.get_model_config("colours")["input"][0]["dims"] == [8, 8, 3]
    before = client.get_inference_statistics("colours")["model_stats"][0]
    client.infer("colours", [tensor(pixels("red", "blue"), binary=True)])
    assert client.get_inference_statistics()["model_stats"][0]["name"] == "colours"
    after = client.get_inference_statistics("colours", "1")["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == 2
    assert after["execution_count"] - before["execution_count"] == 1
    assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]
    assert client.get_model_repository_index() == [{"name": "colours", "version": "1", "state": "READY", "reason": ""}]


def test_loading_without_an_admin_key_is_refused(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="KERNELSCOPE_ADMIN_KEY"):
        client.load_model("colours")
    with pytest.raises(InferenceServerException, match="KERNELSCOPE_ADMIN_KEY"):
        client.unload_model("colours")


def test_the_clients_own_errors_are_understood(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="there is no model 'shapes'"):
        client.infer("shapes", [tensor(pixels("red"), binary=True)])
    with pytest.raises(InferenceServerException, match="shape is"):
        client.infer("colours", [tensor(np.zeros((1, 9, 9, 3), np.uint8), binary=True)])
    sent = tensor(np.array([image(), b"text"], dtype=np.object_), binary=True, datatype="BYTES")
    with pytest.raises(InferenceServerException, match="image 1: this is not an image"):
        client.infer("colours", [sent])


GOOD = {"name": "images", "shape": [1, 8, 8, 3], "datatype": "UINT8", "data": [7] * 192}
WRONG: dict[str, tuple[Any, str]] = {
    "no inputs": ({}, "inputs must list one tensor"),
    "two inputs": ({"inputs": [GOOD, GOOD]}, "inputs must list one tensor"),
    "input not an object": ({"inputs": [3]}, "inputs must list one tensor"),
    "a list": ([], "must be a JSON object"),
    "name": ({"inputs": [{**GOOD, "name": "image"}]}, "there is no input 'image'"),
    "shape word": ({"inputs": [{**GOOD, "shape": "all"}]}, "whole numbers above 0"),
    "negative shape": ({"inputs": [{**GOOD, "shape": [-1, 8, 8, 3]}]}, "whole numbers above 0"),
    "bool shape": ({"inputs": [{**GOOD, "shape": [True, 8, 8, 3]}]}, "whole numbers above 0"),
    "huge shape": ({"inputs": [{**GOOD, "shape": [10**18, 8, 8, 3]}]}, "at most 2147483647"),
    "other shape": ({"inputs": [{**GOOD, "shape": [1, 3, 8, 8]}]}, "the model takes [N, 8, 8, 3]"),
    "short data": ({"inputs": [{**GOOD, "data": [7] * 191}]}, "shape says 192 values, the data hold 191 values"),
    "ragged data": ({"inputs": [{**GOOD, "data": [[1, 2], [3]]}]}, "shape says 1 values, the data hold 2 values"),
    "negative data": ({"inputs": [{**GOOD, "data": [-1] * 192}]}, "from 0 to 255"),
    "large data": ({"inputs": [{**GOOD, "data": [256] * 192}]}, "from 0 to 255"),
    "enormous data": ({"inputs": [{**GOOD, "data": [10**40] * 192}]}, "from 0 to 255"),
    "fractions": ({"inputs": [{**GOOD, "data": [0.5] * 192}]}, "whole numbers"),
    "one long word": ({"inputs": [{**GOOD, "data": ["x" * 200_000, *[0] * 191]}]}, "whole numbers"),
    "timeout without end": ({"inputs": [GOOD], "parameters": {"timeout": 10**400}}, "timeout must be"),
    "words": ({"inputs": [{**GOOD, "data": ["a"] * 20 + [0] * 172}]}, "whole numbers"),
    "no data": ({"inputs": [{key: value for key, value in GOOD.items() if key != "data"}]}, "neither data nor"),
    "datatype": ({"inputs": [{**GOOD, "datatype": "FP32"}]}, "send UINT8"),
    "bytes shape": ({"inputs": [{**GOOD, "datatype": "BYTES"}]}, "encoded images have shape [N]"),
    "bytes count": (
        {"inputs": [{**GOOD, "datatype": "BYTES", "shape": [2], "data": ["aGk="]}]},
        "shape says 2 images, the data hold 1",
    ),
    "not base64": ({"inputs": [{**GOOD, "datatype": "BYTES", "shape": [1], "data": ["*"]}]}, "base64"),
    "output": ({"inputs": [GOOD], "outputs": [{"name": "logits"}]}, "there is no output 'logits'"),
    "outputs word": ({"inputs": [GOOD], "outputs": "all"}, "outputs must list one tensor"),
    "class count": (
        {"inputs": [GOOD], "outputs": [{"name": "probabilities", "parameters": {"classification": -1}}]},
        "classification must be",
    ),
    "parameters": ({"inputs": [GOOD], "parameters": [1]}, "parameters must be an object"),
    "id": ({"inputs": [GOOD], "id": 5}, "id must be a string"),
    "binary size without a part": (
        {"inputs": [{**GOOD, "parameters": {"binary_data_size": 5}}]},
        "binary_data_size is 5",
    ),
    "many images": (
        {"inputs": [{**GOOD, "shape": [9, 8, 8, 3], "data": [0] * 9 * 192}]},
        "9 images; send 8 at most",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_is_refused_and_said_why(server: Server, name: str) -> None:
    asked, says = WRONG[name]
    reply = server.client.post(INFER, json=asked)
    assert reply.status_code == 400, reply.text
    assert says in reply.json()["error"]


@pytest.mark.parametrize(
    ("content", "headers", "says"),
    [
        (b"", {}, "not JSON"),
        (b"\xff\xfe", {}, "not JSON"),
        (b"[" * 200_000, {}, "send fewer"),
        (json.dumps({"inputs": [GOOD]}).replace("7", "NaN", 1).encode(), {}, "not JSON"),
        (json.dumps({"inputs": [GOOD], "id": "\ud800"}).encode(), {}, "half of a surrogate pair"),
        (json.dumps({"inputs": [GOOD], "id": "\n"}).encode(), {}, "id must be a string"),
        (b"{}", {"Inference-Header-Content-Length": "99"}, "the body has 2 bytes"),
        (b"{}", {"Inference-Header-Content-Length": "-1"}, "the body has 2 bytes"),
        (b"{}", {"Inference-Header-Content-Length": "two"}, "the body has 2 bytes"),
        (b"{}", {"Inference-Header-Content-Length": "9" * 5000}, "the body has 2 bytes"),
        (b"{}xyz", {"Inference-Header-Content-Length": "2"}, "inputs must list"),
        (b"", {"Inference-Header-Content-Length": "0"}, "empty"),
        (b"text", {"Inference-Header-Content-Length": "0"}, "not an image"),
        (b"text", {"Content-Encoding": "gzip"}, "the body is not gzip"),
        (gzip.compress(b"{}", mtime=0)[:-4], {"Content-Encoding": "gzip"}, "cut short"),
        (b"{}", {"Content-Encoding": "br"}, "use gzip or deflate"),
        (gzip.compress(b" " * 10_000_000, mtime=0), {"Content-Encoding": "gzip"}, "once unpacked"),
        (zlib.compress(b" " * 10_000_000), {"Content-Encoding": "deflate"}, "once unpacked"),
    ],
)
def test_broken_bodies(server: Server, content: bytes, headers: dict[str, str], says: str) -> None:
    reply = server.client.post(INFER, content=content, headers=headers)
    assert 400 <= reply.status_code < 500, reply.text
    assert says in reply.json()["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/colours/versions/one",
        "/v2/models/colours/versions/9",
        "/v2/models/x/ready",
        f"/v2/models/{'a' * 300}",
        "/v2/nowhere",
    ],
)
def test_unknown_things(server: Server, path: str) -> None:
    reply = server.client.get(path)
    assert reply.status_code == 404
    assert isinstance(reply.json()["error"], str)


def binary_request(header: dict[str, Any], part: bytes, url: str, claimed: int | None = None) -> httpx.Response:
    text = json.dumps(header).encode()
    length = str(len(text) if claimed is None else claimed)
    return httpx.post(url, content=text + part, headers={"Inference-Header-Content-Length": length}, timeout=30)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.lists(st.integers(-3, 12), max_size=5) | st.just([1, 8, 8, 3]) | st.lists(st.integers(1, 3), max_size=2),
    datatype=st.sampled_from(["UINT8", "BYTES", "FP32", "", 3, None]),
    size=st.none() | st.integers(-5, 400) | st.just(192),
    part=st.binary(max_size=250) | st.just(bytes(192)) | st.just(struct.pack("<I", 70) + image()),
    claimed=st.none() | st.integers(0, 400),
)
def test_whatever_stands_in_a_binary_request_is_answered_or_refused(
    server: Server, shape: list[int], datatype: object, size: int | None, part: bytes, claimed: int | None
) -> None:
    parameters = {} if size is None else {"parameters": {"binary_data_size": size}}
    header = {"inputs": [{"name": "images", "shape": shape, "datatype": datatype, **parameters}]}
    reply = binary_request(header, part, server.url + INFER, claimed)
    assert reply.status_code == 200 or 400 <= reply.status_code < 500, reply.text
    if reply.status_code != 200:
        assert reply.json()["error"]


def test_labels_are_in_the_card_order(server: Server) -> None:
    assert tuple(server.client.get("/models/colours").json()["labels"]) == COLOURS


def test_every_model_is_listed_with_the_states_of_its_versions(server: Server) -> None:
    version = {"name": "colours", "version": "1", "state": "READY", "reason": ""}
    assert server.client.get("/v2/models").json() == {"models": ["colours"], "versions": [version]}
    assert server.client.post("/v2/repository/index").json() == [version]
