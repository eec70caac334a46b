"""A reverse proxy that puts a prefix before a server's paths, as one in front of several services does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


@contextmanager
def under_prefix(target: str, prefix: str) -> Iterator[str]:
    """The address under which `target` is reached as `prefix/...`; what is asked for elsewhere gets a 404."""

    class Handler(BaseHTTPRequestHandler):
        def _pass(self) -> None:
            if not self.path.startswith(f"{prefix}/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {key: value for key, value in self.headers.items() if key.lower() not in ("host", "connection")}
            reply = httpx.request(self.command, target + self.path[len(prefix) :], content=body, headers=headers)
            self.send_response(reply.status_code)
            for key, value in reply.headers.items():
                if key not in ("content-length", "content-encoding", "connection"):
                    self.send_header(key, value)
            self.send_header("content-length", str(len(reply.content)))
            self.end_headers()
            self.wfile.write(reply.content)

        do_GET = do_POST = _pass  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{prefix}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
