from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.images import image
from tests.support.models import ADMIN, colour_bundle
from tests.support.server import Server, figures
from tests.support.waiting import eventually


def test_live_ready_and_summary(server: Server) -> None:
    assert server.client.get("/health/live").json() == {"status": "live"}
    assert server.client.get("/health/ready").json() == {"status": "ready"}
    summary = server.client.get("/health").json()
    assert summary["status"] == "ready"
    assert summary["models"] == {"colours": [1]}


@pytest.mark.parametrize(
    "path", ["/health", "/health/live", "/health/ready", "/metrics", "/v2/health/live", "/v2/health/ready"]
)
def test_probes_may_ask_with_head(server: Server, path: str) -> None:
    reply = server.client.head(path)
    assert (reply.status_code, reply.content) == (200, b"")


def test_nothing_is_ready_where_every_model_is_unloaded(serve: Callable[..., Server], colours: Path) -> None:
    server = serve("--models", str(colours), KERNELSCOPE_ADMIN_KEY="secret")
    paths = ("/health/ready", "/v2/health/ready")

    def ready() -> list[int]:
        return [server.client.get(path).status_code for path in paths]

    assert ready() == [200, 200]
    assert server.client.post("/v2/repository/models/colours/unload", headers=ADMIN).status_code == 200
    assert ready() == [503, 503]
    assert server.client.get("/health/live").status_code == 200
    assert server.client.post("/v2/repository/models/colours/load", headers=ADMIN).status_code == 200
    assert ready() == [200, 200]


def test_what_stands_in_the_folder_is_listed_whatever_its_name(serve: Callable[..., Server], tmp_path: Path) -> None:
    colour_bundle(tmp_path)
    os.mkdir(os.fsencode(tmp_path) + b"/\xff\xe2\x80\xa8")
    (tmp_path / "colours" / "\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")).mkdir()
    server = serve("--models", str(tmp_path))
    for path in ("/models", "/v1/models", "/v2/models", "/metrics", "/models/colours"):
        assert server.client.get(path).status_code == 200, path
    assert server.client.post("/v2/repository/index").status_code == 200


def test_models_and_their_cards(server: Server) -> None:
    (listed,) = server.client.get("/models").json()["models"]
    assert listed["labels"] == ["red", "green", "blue"]
    assert listed["default"] is True
    card = server.client.get("/models/colours").json()["card"]
    assert card["training"]["recipe"] == "none"
    refused = server.client.get("/models/shapes")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "unknown_model")
    assert "colours" in refused.json()["error"]["message"]


def test_unknown_paths_and_methods(server: Server) -> None:
    assert server.client.get("/nothing").json()["error"]["code"] == "not_found"
    refused = server.client.get("/predict")
    assert (refused.status_code, refused.json()["error"]["code"]) == (405, "method_not_allowed")
    assert refused.headers["allow"] == "POST"


def test_docs(server: Server) -> None:
    assert server.client.get("/docs").status_code == 200


def answered(code: str, method: str, route: str, model: str, version: str) -> str:
    labels = {"code": code, "method": method, "model": model, "route": route, "version": version}
    return f"kernelscope_requests_total{sorted(labels.items())}"


def test_metrics_count_what_happens(server: Server) -> None:
    before = figures(server)
    for _ in range(3):
        server.client.post("/predict", content=image())
    server.client.post("/predict", content=b"text")
    server.client.post("/nowhere/123")
    after = figures(server)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown(answered("200", "POST", "/predict", "colours", "1")) == 3
    assert grown(answered("415", "POST", "/predict", "colours", "1")) == 1
    assert grown(answered("404", "any", "other", "", "")) == 1
    assert grown("kernelscope_inference_seconds_count[('model', 'colours'), ('version', '1')]") == 3
    assert grown("kernelscope_decode_seconds_count[('model', 'colours'), ('version', '1')]") == 3
    assert grown("kernelscope_refused_images_total[('code', 'unsupported_image')]") == 1
    assert after["kernelscope_requests_in_flight[]"] == 1  # the one that asks


def test_openmetrics_when_asked_for(server: Server) -> None:
    reply = server.client.get("/metrics", headers={"accept": "application/openmetrics-text"})
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    assert reply.text.rstrip().endswith("# EOF")


def test_request_ids(server: Server) -> None:
    assert server.client.get("/health", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = server.client.get("/health").headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{16}", made)
    forged = server.client.get("/health", headers={"X-Request-ID": 'x" evil'}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{16}", forged)


def test_the_access_log_has_a_line_a_request(serve: Callable[..., Server], colours: Path) -> None:
    server = serve("--models", str(colours))
    server.client.post("/predict", content=image(), headers={"X-Request-ID": "one"})
    server.client.get("/models/shapes", headers={"X-Request-ID": "two"})
    assert server.end() == 0
    lines = {line["request_id"]: line for line in server.log() if "request_id" in line}
    assert lines["one"]["status"] == 200
    assert lines["one"]["path"] == "/predict"
    assert lines["one"]["milliseconds"] > 0
    assert lines["two"]["status"] == 404


def test_a_quiet_server_logs_no_requests(serve: Callable[..., Server], colours: Path) -> None:
    server = serve("--models", str(colours), KERNELSCOPE_LOG_REQUESTS="false")
    server.client.get("/health")
    assert server.end(signal.SIGINT) == 0
    assert not [line for line in server.log() if "request_id" in line]


def test_sigterm_finishes_what_was_begun(serve: Callable[..., Server], colours: Path) -> None:
    """A request whose body is still coming when SIGTERM arrives is answered; then the server ends with 0."""
    server = serve("--models", str(colours))
    data = image("green")
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + data[:20])
        eventually(lambda: figures(server)["kernelscope_requests_in_flight[]"] >= 2)
        ended: list[int] = []
        thread = threading.Thread(target=lambda: ended.append(server.end()))
        thread.start()
        connection.sendall(data[20:])
        reply = b"".join(iter(lambda: connection.recv(65536), b""))
        thread.join()
    assert reply.startswith(b"HTTP/1.1 200")
    assert b'"green"' in reply
    assert ended == [0]


def test_a_path_says_all_methods_that_it_takes(server: Server) -> None:
    for path, methods in (
        ("/v1/models/colours:predict", "POST"),  # which the route of a model's status has, too
        ("/models/colours/canary", "DELETE, PUT"),
        ("/health/live", "GET, HEAD"),
        ("/predict", "POST"),
    ):
        refused = server.client.patch(path)
        assert (refused.status_code, refused.headers["allow"]) == (405, methods)
