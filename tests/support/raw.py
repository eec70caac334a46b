"""Raw connections to a server: what no HTTP client would send."""

from __future__ import annotations

import socket

from tests.support.server import Server


def connect(server: Server) -> socket.socket:
    """A connection of its own to a server."""
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def rest(connection: socket.socket) -> bytes:
    """What still comes, until the server closes; nothing more where it resets the connection."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionError:
        pass
    return received


def reply_to(connection: socket.socket) -> bytes:
    """One reply, which is JSON."""
    received = b""
    while not received.endswith(b"}"):
        data = connection.recv(65536)
        assert data, received
        received += data
    return received


def is_closed(connection: socket.socket) -> bool:
    """Whether the server takes no more: one more byte is sent to find out."""
    try:
        connection.sendall(b"x")
    except OSError:
        return True
    return False


def head(method: str, path: str, *lines: str) -> bytes:
    """A request's head."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()
