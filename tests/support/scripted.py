"""A real HTTP server whose replies a test writes down: what proxies, overloads and failures look like to a client."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

_POLL_SECONDS = 0.02
"""How often the server looks whether it shall end."""
ANSWER = {
    "model": "pets", "version": 1, "label": "cat", "index": 0, "probability": 0.9, "unsure": False,
    "top": [{"label": "cat", "index": 0, "probability": 0.9}], "later": "a field of a newer version",
}  # fmt: skip


@dataclass
class Reply:
    """A reply; `body` is written as JSON unless it is bytes. `hang_up`: the connection is closed without one."""

    status: int = 200
    body: Any = field(default_factory=lambda: ANSWER)
    headers: dict[str, str] = field(default_factory=dict)
    hang_up: bool = False
    wait: threading.Event | None = None


@dataclass
class Request:
    """What came."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class Scripted:
    """A running server."""

    url: str
    requests: list[Request]


def error(status: int, code: str, message: str = "no", **headers: str) -> Reply:
    """An error as the service replies it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"error": {"code": code, "message": message}}, named)


@contextmanager
def scripted(replies: list[Reply] | Callable[[Request], Reply]) -> Iterator[Scripted]:
    """Serve replies in order, the last one for ever; or what a function makes of each request."""
    came: list[Request] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(parts.path, query, headers, body)
            with lock:
                came.append(request)
                reply = replies(request) if callable(replies) else replies[min(len(came), len(replies)) - 1]
            if reply.wait:
                reply.wait.wait(30)
            if reply.hang_up:
                self.close_connection = True
                return
            content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,))
    thread.start()
    try:
        yield Scripted(f"http://127.0.0.1:{server.server_address[1]}", came)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
