"""One line and one set of figures a request: request ids, the access log, and the request metrics."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.context import RequestContext, context_of
from service.http.errors import shutting_down
from service.observability import request_line
from service.observability.metrics import Metrics
from service.observability.request_line import RequestLine

_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_NO_ROUTE: Final = "other"
_NO_METHOD: Final = "any"
_FAULT: Final = 500
CLIENT_GONE: Final = 499
"""What is logged where the client left before there was a reply; nginx' number."""
_CLOSE: Final = (b"connection", b"close")


@dataclass(frozen=True, slots=True)
class Recorder:
    """Counts requests that have been answered, and writes their lines in the log.

    Attributes:
        metrics: told of each.
        log_requests: whether each has its line.
    """

    metrics: Metrics
    log_requests: bool

    def record(
        self, context: RequestContext, status: int, *, method: str, path: str, client: Any, route: str | None = None
    ) -> None:
        """Record one request.

        Args:
            context: what is known of it.
            status: of its reply.
            method, path: what was asked.
            client: host and port, None where the connection has none.
            route: the template of its path; None for a path that is none. A metric's label must not have as many
                values as clients care to send.
        """
        seconds = time.perf_counter() - context.arrived
        self.metrics.requests.add(
            route or _NO_ROUTE, method if route else _NO_METHOD, status, context.metric_labels, seconds
        )
        if self.log_requests:
            address = client[0] if client else None
            request_line.write(
                RequestLine(time.time(), method, path, int(status), seconds, address, context.request_id, context.key)
            )


class AccessLog:
    """Pure ASGI, for every request takes this path: Starlette's `BaseHTTPMiddleware` costs as much as a small model."""

    def __init__(self, app: ASGIApp, metrics: Metrics, *, log_requests: bool) -> None:
        self._app, self._metrics = app, metrics
        self._recorder = Recorder(metrics, log_requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, and record it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = context_of(scope)
        identity = identify(scope["headers"], context)
        status = CLIENT_GONE

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", identity)]
                if context.body_pending:  # the rest is not waited for, and must not be taken for the next request
                    message["headers"].append(_CLOSE)
            await send(message)

        self._metrics.requests.in_flight += 1
        try:
            await self._app(scope, receive, answer)
        except asyncio.CancelledError:  # the time that requests get at the end of the service is over
            if status == CLIENT_GONE:
                await shutting_down(scope["path"])(scope, receive, answer)
        except Exception:
            status = _FAULT  # the reply is sent further out
            raise
        finally:
            self._metrics.requests.in_flight -= 1
            if not context.is_refused:  # else the connection has recorded it
                self._recorder.record(
                    context,
                    status,
                    method=scope["method"],
                    path=scope["path"],
                    client=scope.get("client"),
                    route=getattr(scope.get("route"), "path", None),
                )


def identify(headers: Iterable[tuple[bytes, bytes]], context: RequestContext) -> bytes:
    """The request's id: the client's own, if it is one that can be logged safely, else the one made for it."""
    for name, value in headers:
        if name == b"x-request-id" and _ID.fullmatch(value):
            context.request_id = value.decode()
            return bytes(value)
    return context.request_id.encode()
