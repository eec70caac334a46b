"""One line and one set of figures a request: request ids, the access log, and the request metrics."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.context import RequestContext, context_of
from service.observability.metrics import Metrics

log = logging.getLogger("kernelscope.access")

_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_FAULT: Final = 500
_CLIENT_GONE: Final = 499
"""What is logged where the client left before there was a reply; nginx' number."""
_CLOSE: Final = (b"connection", b"close")


class AccessLog:
    """Pure ASGI, for every request takes this path: Starlette's `BaseHTTPMiddleware` costs as much as a small model."""

    def __init__(self, app: ASGIApp, metrics: Metrics, *, log_requests: bool) -> None:
        self._app, self._metrics, self._log_requests = app, metrics, log_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = context_of(scope)
        identity = identify(scope["headers"], context)
        status = _CLIENT_GONE

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", identity)]
                if context.body_pending:  # the rest is not waited for, and must not be taken for the next request
                    message["headers"].append(_CLOSE)
            await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, answer)
        except Exception:
            status = _FAULT  # the reply is sent further out
            raise
        finally:
            self._metrics.in_flight.dec()
            took = time.perf_counter() - context.arrived
            # the route's template, not the path: a label must not have as many values as clients care to send
            route = getattr(scope.get("route"), "path", "other")
            model = context.metric_labels
            self._metrics.requests.labels(route, scope["method"] if route != "other" else "any", status, *model).inc()
            self._metrics.request_seconds.labels(route, *model).observe(took)
            if self._log_requests:
                write(scope["method"], scope["path"], status, took, scope.get("client"), context)


def write(method: str, path: str, status: int, seconds: float, client: Any, context: RequestContext) -> None:
    """A request's line.

    Args:
        method, path, status: what was asked, and how it was answered.
        seconds: since the request's head was complete.
        client: host and port, None where the connection has none.
        context: with the request's id, as the reply's `X-Request-ID` says, and the name of its key.
    """
    fields = {
        "method": method,
        "path": path,
        "status": int(status),
        "milliseconds": round(seconds * 1000, 2),
        "client": client[0] if client else None,
        "request_id": context.request_id,
    }
    if context.key:
        fields["key"] = context.key
    log.info("%s %s %d", method, path, status, extra={"fields": fields})


def identify(headers: Iterable[tuple[bytes, bytes]], context: RequestContext) -> bytes:
    """The request's id: the client's own, if it is one that can be logged safely, else the one made for it."""
    for name, value in headers:
        if name == b"x-request-id" and _ID.fullmatch(value):
            context.request_id = value.decode()
            return bytes(value)
    return context.request_id.encode()
