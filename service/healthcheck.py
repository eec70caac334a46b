"""`python -m service.healthcheck`: exits with 0 where the service of this machine or container is ready.

It asks where the environment says that the service listens, and nothing but the standard library is imported.
"""

from __future__ import annotations

import http.client
import os
import socket
import sys
from typing import Final

_SECONDS: Final = 4.0
_PORT: Final = 8000
_UNIX: Final = "unix:"
_ALL: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- to ask, not to listen


class _UnixConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.host)


def main() -> int:
    """Ask once; returns the exit code."""
    host, port = os.environ.get("KERNELSCOPE_HOST", ""), os.environ.get("KERNELSCOPE_PORT", "")
    # http.client, because urllib would ask a proxy that the environment may name
    number = int(port) if port.isdecimal() else _PORT
    connection = (
        _UnixConnection(host.removeprefix(_UNIX), timeout=_SECONDS)
        if host.startswith(_UNIX)
        # a Service named kernelscope makes the variable an address: the service itself passes over that, too
        else http.client.HTTPConnection(_ALL.get(host, host), number, timeout=_SECONDS)
    )
    try:
        connection.request("GET", "/health/ready", headers={"Host": "localhost"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer: {error}", file=sys.stderr)
        return 1
    print(status)
    return 0 if status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
