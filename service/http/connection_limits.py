"""What the connections of a process may take, and what is said where they take more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from service.http.connection import Connection

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request's first line, headers, trailers and what stands between chunks; proxies allow less."""
HEADERS_TOO_LARGE: Final = (
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "headers_too_large",
    f"the headers and trailers are longer than {MAX_HEAD:,} bytes",
)
HEAD_TOO_SLOW: Final = (HTTPStatus.REQUEST_TIMEOUT, "request_timeout", "the request's headers took too long to come")
TOO_MANY_CONNECTIONS: Final = (
    HTTPStatus.SERVICE_UNAVAILABLE,
    "too_many_connections",
    "there are too many connections: try again in a moment",
)
Refusal = tuple[HTTPStatus, str, str]
"""Status, code and message of a reply that is made here."""


@dataclass
class ConnectionLimits:
    """What the connections of one process may take, and those of them that wait for their client.

    Attributes:
        head_seconds: how long a request's head may take, from its first byte or the connection's.
        connections: how many there may be; beyond that, the one that has waited longest for its client is closed.
        count: told how many there are, whenever that changes.
        waiting: connections on which a request, or the rest of one, is awaited, the longest waiting first.
    """

    head_seconds: float = 30.0
    connections: int = 4096
    count: Callable[[int], None] = lambda number: None
    waiting: dict[Connection, None] = field(default_factory=dict)
