"""A prefix before the paths, taken off by the proxy or not, and addresses that a proxy forwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.images import image
from tests.support.server import Server

RED = image("red")


@pytest.fixture(scope="module")
def behind(serve: Callable[..., Server], colours: Path) -> Server:
    flags = ("--prefix", "/vision", "--trusted-proxies", "127.0.0.1")
    return serve("--models", str(colours), *flags, KERNELSCOPE_API_KEYS="secret")


@pytest.mark.parametrize("prefix", ["", "/vision"])
def test_paths_are_the_same_with_and_without_the_prefix(behind: Server, prefix: str) -> None:
    headers = {"X-API-Key": "secret"}
    assert behind.client.get(f"{prefix}/health/ready").status_code == 200
    assert behind.client.get(f"{prefix}/docs").status_code == 200
    assert behind.client.get(f"{prefix}/?x=y").status_code == 200
    assert behind.client.post(f"{prefix}/predict", content=RED).status_code == 401
    assert behind.client.post(f"{prefix}/predict", content=RED, headers=headers).json()["label"] == "red"
    document = behind.client.get(f"{prefix}/openapi.json", headers=headers).json()
    assert document["servers"] == [{"url": "/vision"}]
    assert "/predict" in document["paths"]
    refused = behind.client.get(f"{prefix}/v2/models/x", headers=headers)
    assert (refused.status_code, isinstance(refused.json()["error"], str)) == (404, True)


@pytest.mark.parametrize("path", ["/visionx/health/ready", "/vision/vision/health/ready", "/visionhealth/ready"])
def test_what_only_looks_like_the_prefix_is_none(behind: Server, path: str) -> None:
    assert behind.client.get(path, headers={"X-API-Key": "secret"}).status_code == 404


def test_who_has_asked_is_believed_of_trusted_proxies_alone(
    serve: Callable[..., Server], behind: Server, colours: Path
) -> None:
    untrusting = serve("--models", str(colours))
    clients = []
    for server in (behind, untrusting):
        headers = {"X-Forwarded-For": "203.0.113.7", "X-Request-ID": "forwarded"}
        assert server.client.get("/health/live", headers=headers).status_code == 200
        assert server.end() == 0
        clients += [line["client"] for line in server.log() if line.get("request_id") == "forwarded"]
    assert clients == ["203.0.113.7", "127.0.0.1"]
