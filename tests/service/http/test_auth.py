from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from service.http.auth import ApiKeys, sent
from service.settings import load
from tests.support.images import image
from tests.support.server import Server

KEYS = ApiKeys(load(api_keys="one, two", admin_key="boss"))


@pytest.mark.parametrize(
    "path",
    ["/health", "/health/live", "/health/ready", "/metrics", "/v2/health/live", "/v2/health/ready", "/", "/docs",
     "/web/page.js"],
)  # fmt: skip
def test_what_probes_and_the_page_ask_is_open(path: str) -> None:
    assert KEYS.allow(path, [])


@pytest.mark.parametrize(
    "path",
    ["/healthx", "/health/", "/health/live/x", "/metricsx", "/metrics/x", "/v2/healthx", "/v2/health", "/web", "/docsx",
     "/docs/", "//", "/predict", "/models", "/openapi.json", "/HEALTH", ""],
)  # fmt: skip
def test_everything_else_takes_a_key(path: str) -> None:
    assert not KEYS.allow(path, [])
    assert not KEYS.allow(path, [(b"x-api-key", b""), (b"authorization", b"Bearer ")])
    for key in (b"one", b"two", b"boss"):
        assert KEYS.allow(path, [(b"authorization", b"bearer " + key)])
        assert KEYS.allow(path, [(b"host", b"x"), (b"x-api-key", key)])


def test_without_keys_all_is_open() -> None:
    assert ApiKeys(load(admin_key="boss")).allow("/predict", [])


def test_a_key_that_is_no_ascii_is_compared_as_bytes() -> None:
    assert sent([(b"x-api-key", b"\xc3\xa9\xff")]) == b"\xc3\xa9\xff"
    assert not KEYS.allow("/predict", [(b"x-api-key", b"\xc3\xa9\xff")])


def test_a_server_with_keys(serve: Callable[..., Server], colours: Path) -> None:
    server = serve("--models", str(colours), KERNELSCOPE_API_KEYS="one,two")
    assert server.client.get("/health/ready").status_code == 200
    assert server.client.get("/healthx").status_code == 401
    refused = server.client.post("/predict", content=image("red"))
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert server.client.post("/predict", content=image("red"), headers={"X-API-Key": "two"}).status_code == 200
