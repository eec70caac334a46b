"""Joins a Ray cluster; imported where Ray is asked for, for it is an extra."""

from __future__ import annotations

import logging
import os
import socket
from typing import Final

from contract.errors import KernelscopeError
from contract.session import first_line

_CONNECT_SECONDS: Final = 10.0


def join(address: str) -> None:
    """Make this process part of a cluster, until `ray.shutdown`.

    Args:
        address: host and port of its head; `auto` for the cluster that this machine belongs to, `local` for a new one.

    Raises:
        KernelscopeError: there is none.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    host, _, port = address.rpartition(":")
    try:
        if host and port.isdecimal() and "://" not in address:  # where nobody listens Ray goes on trying for minutes
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray's are of many kinds
        reason = getattr(error, "strerror", None) or first_line(error)
        raise KernelscopeError(f"there is no Ray cluster at {address!r} that can be joined: {reason}") from None
