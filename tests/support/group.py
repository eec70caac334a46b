"""The processes behind one server, and clients that reach each of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.server import Server


def workers(server: Server) -> list[int]:
    """The process ids of the worker group."""
    found = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(pid) for pid in found]


def is_alive(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def owner(server: Server, port: int) -> int:
    """Which process has taken the connection from a client's port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inode = next(row[9] for row in rows if row[2].endswith(f":{port:04X}") and row[9] != "0")
    for pid in workers(server):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if os.readlink(link) == f"socket:[{inode}]":
                    return pid
            except FileNotFoundError:
                continue
    raise AssertionError("nobody has it")


class Connected:
    """A client on one connection of its own, whose process is known."""

    def __init__(self, server: Server) -> None:
        host, port = server.url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self.client = httpx.Client(base_url=server.url, timeout=30, transport=_OneSocket(self._socket))
        self.client.get("/health/live")
        self.pid = owner(server, self._socket.getsockname()[1])

    def close(self) -> None:
        """Leave."""
        self.client.close()
        self._socket.close()


class _OneSocket(httpx.BaseTransport):
    """HTTP/1.1 over a socket that is there already, one request after another."""

    def __init__(self, connection: socket.socket) -> None:
        import http.client

        self._connection = http.client.HTTPConnection("localhost")
        self._connection.sock = connection

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._connection.request(
            request.method, request.url.raw_path.decode(), request.read() or None, dict(request.headers)
        )
        reply = self._connection.getresponse()
        return httpx.Response(reply.status, headers=reply.getheaders(), content=reply.read())


@contextmanager
def reach(server: Server, count: int = 2) -> Iterator[dict[int, httpx.Client]]:
    """A client connected to each of `count` processes, by process id."""
    found: dict[int, Connected] = {}
    try:
        while len(found) < count:
            connected = Connected(server)
            if found.setdefault(connected.pid, connected) is not connected:
                connected.close()
        yield {pid: connected.client for pid, connected in found.items()}
    finally:
        for connected in found.values():
            connected.close()
