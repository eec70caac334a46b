"""A request's line in the log. They are formatted together, once a turn of the event loop, from a template.

A record of `logging` for each costs more than all else that answering a small request does; there is one for many.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

from service.observability.text import escaped

log = logging.getLogger("kernelscope.access")

_MOST_CACHED: Final = 256
"""Characters of a path whose part of the line is kept; clients choose paths."""


class RequestLine(NamedTuple):
    """What the log says of a request.

    Attributes:
        time: when it was answered, in seconds since 1970.
        method, path, status: what was asked, and how it was answered.
        seconds: since its head was complete.
        client: the client's address, None where the connection has none.
        request_id: as the reply's `X-Request-ID` says.
        key: the name of the API key that came with it, empty where none is needed.
    """

    time: float
    method: str
    path: str
    status: int
    seconds: float
    client: str | None
    request_id: str
    key: str = ""


class _Lines:
    """Lines that wait for the end of the turn."""

    def __init__(self) -> None:
        self.waiting: list[RequestLine] = []

    def flush(self) -> None:
        """Hand them on, in one record."""
        lines, self.waiting = self.waiting, []
        if lines:
            log.handle(
                logging.makeLogRecord(
                    {"name": log.name, "levelno": logging.INFO, "levelname": "INFO", "requests": lines, "msg": ""}
                )
            )


_LINES: Final = _Lines()


def write(line: RequestLine) -> None:
    """Log a line at the end of this turn of the event loop; called on it."""
    if not _LINES.waiting:
        asyncio.get_running_loop().call_soon(_LINES.flush)
    _LINES.waiting.append(line)


def lines_of(record: logging.LogRecord) -> Sequence[RequestLine] | None:
    """The lines that a record stands for; None for a record of any other kind."""
    lines: Sequence[RequestLine] | None = getattr(record, "requests", None)
    return lines


def as_json(line: RequestLine) -> str:
    r"""A line as JSON.

    Example:
        >>> as_json(RequestLine(0.0, "GET", "/", 200, 0.0123, None, "x"))[:68]
        '{"time": "1970-01-01T00:00:00.000+00:00", "level": "info", "message"'
    """
    asked = _asked if len(line.path) <= _MOST_CACHED else _asked.__wrapped__
    time = datetime.fromtimestamp(line.time, UTC).isoformat(timespec="milliseconds")
    quoted = _quoted if len(line.client or "") <= _MOST_CACHED else _quoted.__wrapped__
    key = f', "key": {quoted(line.key)}' if line.key else ""
    return (
        f'{{"time": "{time}", {asked(line.method, line.path, line.status)}, "milliseconds": '
        f'{round(line.seconds * 1000, 2)}, "client": {quoted(line.client)}, "request_id": "{line.request_id}"{key}}}'
    )


def as_text(line: RequestLine) -> str:
    """A line for a person at a terminal."""
    said = escaped(f"{line.method} {line.path} {line.status}")
    return f"{datetime.fromtimestamp(line.time):%H:%M:%S}  {said}  {line.seconds * 1000:.1f} ms  {line.request_id}"


@lru_cache(1024)
def _quoted(client: str | None) -> str:
    return escaped(json.dumps(client, ensure_ascii=False))


@lru_cache(1024)
def _asked(method: str, path: str, status: int) -> str:
    """The part of a line that many have in common."""
    fields = {
        "level": "info",
        "message": f"{method} {path} {status}",
        "method": method,
        "path": path,
        "status": status,
    }
    return escaped(json.dumps(fields, ensure_ascii=False))[1:-1]
