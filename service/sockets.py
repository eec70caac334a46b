"""Listening sockets."""

from __future__ import annotations

import errno
import socket

from contract.errors import UsageError

_BACKLOG = 2048
"""Connections that the system holds until they are accepted; it takes its own limit where that is lower."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises `UsageError` where the address is taken or is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
        opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"port {port} is taken: choose another with --port or KERNELSCOPE_PORT") from None
        raise UsageError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    opened.setblocking(False)
    return opened


def url(opened: socket.socket) -> str:
    """Where a socket listens, as a person types it."""
    host, port, *_ = opened.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
