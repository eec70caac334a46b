"""Listening sockets, and how many connections there can be."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path
from typing import Final

from contract.errors import UsageError

_BACKLOG: Final = 2048
"""Connections that the system holds until they are accepted; it takes its own limit where that is lower."""
UNIX: Final = "unix:"
"""What the host begins with where it is the path of a Unix socket."""
_OWN_FILES: Final = 128
"""Files that a process has open beside its connections, with room for models that are loaded."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: an address of this machine, or `unix:` and a path.
        port: 0 for any that is free; of no use to a Unix socket.

    Raises:
        UsageError: the address is taken, is not this machine's, or is none.
    """
    if host.startswith(UNIX):
        return _listen_unix(Path(host.removeprefix(UNIX)))
    if not host.strip() or host.startswith("<"):  # Python takes the empty address, and <broadcast>, for others
        raise UsageError(f"--host or KERNELSCOPE_HOST is {host!r}: give an address; 0.0.0.0 for all, :: of IPv6")
    opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
        opened.listen(_BACKLOG)
    except (OSError, UnicodeError) as error:
        opened.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise UsageError(f"port {port} is taken: choose another with --port or KERNELSCOPE_PORT") from None
        why = error.strerror if isinstance(error, OSError) else "this is no address"
        raise UsageError(f"cannot listen on {host} port {port}: {why or error}") from None
    opened.setblocking(False)
    return opened


def _listen_unix(path: Path) -> socket.socket:
    """A Unix socket at a path; one that nobody listens on any more is replaced."""
    if not path.name:
        raise UsageError("--host unix: names no file: give unix:/run/kernelscope.sock, say")
    opened = socket.socket(socket.AF_UNIX)
    try:
        if _is_left_behind(path):
            path.unlink()
        opened.bind(str(path))
        opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        why = "something listens there" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise UsageError(f"cannot listen on {path}: {why}") from None
    opened.setblocking(False)
    return opened


def _is_left_behind(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode):
            with socket.socket(socket.AF_UNIX) as client:
                return client.connect_ex(str(path)) == errno.ECONNREFUSED
    return False


def remove(host: str) -> None:
    """Remove the file of a Unix socket that has been listened on; nothing else has one."""
    if host.startswith(UNIX):
        Path(host.removeprefix(UNIX)).unlink(missing_ok=True)


def url(opened: socket.socket) -> str:
    """Where a socket listens, as a person types it."""
    if opened.family == socket.AF_UNIX:
        return f"{UNIX}{opened.getsockname()}"
    host, port, *_ = opened.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def most_connections(wanted: int, workers: int) -> int:
    """One process' share of the connections that a service may have, as far as the system lets it open files."""
    share = -(-wanted // workers)
    if os.name != "posix":
        return share
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = share + _OWN_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return max(1, min(share, soft - _OWN_FILES))
    return share
