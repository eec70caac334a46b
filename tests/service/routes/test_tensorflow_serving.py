from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from tests.support.images import image, pixels
from tests.support.server import Server

PREDICT = "/v1/models/colours:predict"


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


def test_status_and_metadata(server: Server) -> None:
    (status,) = server.client.get("/v1/models/colours").json()["model_version_status"]
    assert (status["version"], status["state"], status["status"]["error_code"]) == ("1", "AVAILABLE", "OK")
    assert server.client.get("/v1/models/colours/versions/1").status_code == 200
    found = server.client.get("/v1/models/colours/metadata").json()
    signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["images"]["dtype"] == "DT_UINT8"
    assert found["model_spec"]["version"] == "1"


@pytest.mark.parametrize("path", [PREDICT, "/v1/models/colours/versions/1:predict"])
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"images": x}], ids=["bare", "named"])
def test_instances(server: Server, path: str, wrap: Any) -> None:
    raw = [wrap(x.tolist()) for x in pixels("red", "blue")]
    encoded = [wrap(b64(image(colour, (20, 20), "JPEG"))) for colour in ("red", "blue")]
    for instances in (raw, encoded):
        reply = server.client.post(path, json={"signature_name": "serving_default", "instances": instances})
        assert reply.status_code == 200, reply.text
        assert np.argmax(reply.json()["predictions"], axis=1).tolist() == [0, 2]


def test_inputs(server: Server) -> None:
    for inputs in (pixels("green").tolist(), {"images": pixels("green").tolist()}, b64(image("green"))):
        reply = server.client.post(PREDICT, json={"inputs": inputs})
        assert np.argmax(reply.json()["outputs"], axis=1).tolist() == [1], reply.text


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({}, "either instances or inputs"),
        ({"instances": [], "inputs": []}, "either instances or inputs"),
        ({"instances": []}, "one or more"),
        ({"instances": "x"}, "one or more"),
        ({"instances": [1]}, "where shape says"),
        ({"instances": [{"b64": "*"}]}, "base64"),
        ({"instances": [{"b64": ""}]}, "empty"),
        ({"instances": [{"png": "x"}]}, "an instance must be"),
        ({"instances": [b64(image()), [[1]]]}, "all images as pixels"),
        ({"instances": [[1]] * 9}, "send 8 at most"),
        ({"instances": [[1]], "signature_name": "other"}, "one signature"),
        ([], "must be a JSON object"),
    ],
)
def test_a_wrong_request_is_refused(server: Server, asked: Any, says: str) -> None:
    reply = server.client.post(PREDICT, json=asked)
    assert 400 <= reply.status_code < 500
    assert says in reply.json()["error"]


@pytest.mark.parametrize(
    "path",
    ["/v1/models/shapes", f"/v1/models/{'a' * 300}", "/v1/models/colours/versions/7", "/v1/models/colours/versions/x"],
)
def test_unknown_models(server: Server, path: str) -> None:
    reply = server.client.get(path)
    assert reply.status_code == 404
    assert isinstance(reply.json()["error"], str)


def test_an_empty_signature_name_is_the_one_that_there_is(server: Server) -> None:
    asked = {"signature_name": "", "instances": [b64(image("red"))]}
    assert server.client.post(PREDICT, json=asked).status_code == 200
    for name in ("other", None, 1):
        assert server.client.post(PREDICT, json={**asked, "signature_name": name}).status_code == 400


def test_every_model_is_listed_with_the_states_of_its_versions(server: Server) -> None:
    assert server.client.get("/v1/models").json() == {
        "models": ["colours"],
        "versions": [{"name": "colours", "version": "1", "state": "AVAILABLE", "reason": ""}],
    }
