from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.images import image
from tests.support.server import ROOT, Server

CLOCKS_NS = 1_000_000
"""Two clocks are read one after the other; the system may take a while between the two."""
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Span]]]:
    """An OTLP endpoint, and the spans that have come to it."""
    spans: list[Span] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                raise AssertionError("not asked for")
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base's name
            """Stay silent."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", spans
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_requests_time_is_traced_below_its_callers_span(
    serve: Callable[..., Server], colours: Path, collector: tuple[str, list[Span]], workers: str
) -> None:
    url, spans = collector
    server = serve("--models", str(colours), "--workers", workers, OTEL_EXPORTER_OTLP_ENDPOINT=url)
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    assert server.client.post("/predict", content=image("red"), headers=headers).json()["label"] == "red"
    assert server.end() == 0
    found = {span.name: span for span in spans if span.trace_id.hex() == TRACE}
    assert set(found) == {"POST /predict", "decode", "queue", "inference"}
    whole = found.pop("POST /predict")
    assert whole.parent_span_id.hex() == PARENT
    assert {span.parent_span_id for span in found.values()} == {whole.span_id}
    decode, queue, inference = (found[name] for name in ("decode", "queue", "inference"))
    times = [
        whole.start_time_unix_nano,
        decode.start_time_unix_nano,
        decode.end_time_unix_nano,
        queue.start_time_unix_nano,
        queue.end_time_unix_nano,
        inference.end_time_unix_nano,
        whole.end_time_unix_nano,
    ]
    assert all(later > sooner - CLOCKS_NS for sooner, later in pairwise(times))
    assert abs(queue.end_time_unix_nano - inference.start_time_unix_nano) < CLOCKS_NS


def test_without_an_endpoint_nothing_of_it_is_loaded(colours: Path) -> None:
    code = (
        "import sys\n"
        "from service import app, settings, worker_link\n"
        f"chosen = settings.settled(settings.load(models={str(colours)!r}))\n"
        "made = app.create_app(app.create_state(chosen, worker_link.WorkerLink()))\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"
