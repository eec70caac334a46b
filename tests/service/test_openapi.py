"""What the OpenAPI document promises, a running server keeps: generated requests, good and bad, to every operation."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.core.parameters import ParameterLocation

from contract.network.prepared import Index, Writer, checksum
from service.routes.open_inference_codec import HEADER
from tests.support.models import colour_bundle
from tests.support.server import Server

THERE = {"name": "colours", "version": "1"}
ADMIN = {"Authorization": "Bearer secret"}
CONFIG: dict[str, Any] = {
    "generation": {"deterministic": True, "database": "none", "max-examples": 20},
    "checks": {
        # 503 is what follows a timeout of next to nothing; it must be documented as any other status
        "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "503"]},
        "negative_data_rejection": {
            "expected-statuses": ["400", "401", "403", "404", "405", "413", "415", "422", "503"],
        },
        # JSON Schema cannot say that data are an image, nor that they are as many as the shape says
        "positive_data_acceptance": {"enabled": False},
    },
    "operations": [
        # half of the paths have names as they are made up, the others must get as far as the model
        {"include-path-regex": "/versions/|infer$|:predict$", "parameters": THERE},
        # what is loaded again stays as it is; /unload goes without the key, so that it is refused
        {"include-path-regex": "/load$", "parameters": THERE, "headers": ADMIN},
    ],
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, whose raw images are longer than what is generated: else a broken request may happen to be one."""
    root = tmp_path_factory.mktemp("models")
    for name in ("colours", "gone"):
        folder = colour_bundle(root, name, height=64, width=64).folder
        writer = Writer(folder)  # so that neighbours are found
        writer.embeddings(np.eye(3, dtype=np.float32), np.arange(3), np.arange(3))
        writer.finish(Index(checksum(folder), name, 3, ()))
    return root


@pytest.fixture(scope="module")
def locked(serve: Callable[..., Server], repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server that takes an admin key to load and unload, and keeps feedback."""
    kept = ("--feedback", str(tmp_path_factory.mktemp("kept")), "--feedback-rate", "1000")
    return serve("--models", str(repository), "--max-body", "300000", *kept, KERNELSCOPE_ADMIN_KEY="secret")


@pytest.fixture(scope="module")
def documented(locked: Server) -> Any:
    return schemathesis.openapi.from_url(f"{locked.url}/openapi.json", config=SchemathesisConfig.from_dict(CONFIG))


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        yield made


@pytest.fixture(autouse=True)
def node_id(request: pytest.FixtureRequest) -> None:
    """What schemathesis 4.32 reads and sets to name its subtests, and pytest 9.2 no more has."""
    request.node._nodeid = request.node.nodeid


@schemathesis.pytest.from_fixture("documented").parametrize()
def test_every_reply_is_as_documented(case: schemathesis.Case[Any], session: requests.Session) -> None:
    header_is_wrong = case.meta is not None and case.meta.is_negative_at(ParameterLocation.HEADER)
    if case.media_type == "application/json" and not header_is_wrong:
        case.headers.pop(HEADER, None)  # with it the body is no JSON request, and its JSON would go untested
    case.call_and_validate(session=session)


def test_every_example_is_answered(locked: Server) -> None:
    document = locked.client.get("/openapi.json").json()
    paths, parts = document["paths"], document["components"]["schemas"]
    answered = []
    for path, operation in ((path, found["post"]) for path, found in paths.items() if "post" in found):
        content = operation.get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema", {})
        forms = [schema, *(parts[one["$ref"].rpartition("/")[2]] for one in schema.get("anyOf", ()))]
        for example in [one for form in forms for one in form.get("examples", ())]:
            query = {
                one["name"]: one["schema"]["examples"][0]
                for one in operation.get("parameters", ())
                if one["in"] == "query" and one["required"]
            }
            reply = locked.client.post(path.format(**THERE), json=example, params=query)
            assert reply.status_code == (202 if path == "/feedback" else 200), reply.text
            answered.append(path)
    assert len(answered) == 12


def test_refusals_are_documented_in_the_shape_of_the_paths_protocol(locked: Server) -> None:
    for path, methods in locked.client.get("/openapi.json").json()["paths"].items():
        shape = "ProtocolError" if path.startswith(("/v1", "/v2")) else "ErrorReply"
        for operation in methods.values():
            for status, said in operation["responses"].items():
                if status.startswith("4"):
                    assert said["content"]["application/json"]["schema"]["$ref"].endswith(f"/{shape}"), path
    assert isinstance(locked.client.post("/v2").json()["error"], str)


def test_a_model_that_is_unloaded_and_gone_is_listed_no_more(locked: Server, repository: Path) -> None:
    reply = locked.client.post("/v2/repository/models/gone/unload", headers=ADMIN)
    assert reply.status_code == 200, reply.text
    shutil.rmtree(repository / "gone")
    names = [one["name"] for one in locked.client.post("/v2/repository/index").json()]
    assert names == ["colours"]
    assert locked.client.get("/models").status_code == 200


def test_a_parameter_in_a_path_is_always_there(locked: Server) -> None:
    """Generators of clients leave out operations whose paths may hold null."""
    for path, methods in locked.client.get("/openapi.json").json()["paths"].items():
        for operation in methods.values():
            placed = {one["name"]: one for one in operation.get("parameters", ()) if one["in"] == "path"}
            assert set(placed) == set(re.findall(r"{(\w+)}", path)), path
            assert all(one["required"] and one["schema"].get("type") == "string" for one in placed.values()), path


def test_operations_have_names_of_their_own(locked: Server) -> None:
    document = locked.client.get("/openapi.json").json()
    names = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))


def test_objects_among_alternatives_have_names(locked: Server) -> None:
    """Generators of clients make a class of each, and leave out operations with one that has no name."""

    def unnamed(node: Any) -> Iterator[Any]:
        if isinstance(node, list):
            node = dict(enumerate(node))
        if isinstance(node, dict):
            yield from (one for one in node.get("anyOf", ()) if "properties" in one)
            for part in node.values():
                yield from unnamed(part)

    assert not list(unnamed(locked.client.get("/openapi.json").json()))
