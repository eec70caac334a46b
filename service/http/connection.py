"""uvicorn's HTTP/1.1 protocol, plus limits on headers, cancellation on disconnect, and an early 503.

The limits are on the headers' size and on the time they may take. httptools has neither: a header may grow until memory
ends, and a connection may stay silent for ever. When a client disconnects, the futures that its request waits for are
cancelled; ASGI's own way, waiting for a message, costs each request two more tasks. When the queue is full, requests
are rejected here (`service.http.admission`).
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.http.admission import AdmissionControl
from service.http.context import RequestContext, attach
from service.http.errors import OVERLOADED, RETRY_SECONDS, reply

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request's first line and headers; what proxies allow is less."""

HEADERS_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: application/json\r\nconnection: close\r\ncontent-length: 91\r\n\r\n"
    b'{"error":{"code":"headers_too_large","message":"the headers are longer than 65,536 bytes"}}'
)
_BUSY: Final = bytes(reply("/predict", HTTPStatus.SERVICE_UNAVAILABLE, *OVERLOADED).body)
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: %d\r\n"
    b"content-length: %d\r\n\r\n%b" % (RETRY_SECONDS, len(_BUSY), _BUSY)
)


class Connection(HttpToolsProtocol):
    """One connection.

    Args:
        arguments, options: uvicorn's.
        head_seconds: how long a request's head may take, from its first byte or the connection's.
        admission: which requests may come in; all where None.
    """

    def __init__(
        self, *arguments: Any, head_seconds: float = 30.0, admission: AdmissionControl | None = None, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self.head_seconds, self.admission = head_seconds, admission

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        self._pending: set[asyncio.Future[Any]] = set()
        self._rejected = False
        self._head: int | None = 0  # bytes of the present request's head so far; None while its body comes
        self._timer = self.loop.call_later(self.head_seconds, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left."""
        self._timer.cancel()
        for future in self._pending:
            future.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        begins = self._head == 0
        if self._head is not None:
            self._head += len(data)
        super().data_received(data)
        if not self._head or self.transport.is_closing():
            return
        if self._head > MAX_HEAD:
            self.transport.write(HEADERS_TOO_LARGE)
            self.transport.close()
        elif begins:  # most heads come whole, and cost no timer
            self._timer.cancel()
            self._timer = self.loop.call_later(self.head_seconds, self.transport.close)

    def on_headers_complete(self) -> None:
        """A request's head is whole."""
        self._head = None
        self._timer.cancel()
        self._rejected = self._is_over_capacity()
        if not self._rejected:
            attach(self.scope, RequestContext(pending=self._pending))
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a request's body has come."""
        if not self._rejected:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole; another may follow."""
        self._head = 0
        if not self._rejected:
            super().on_message_complete()
            return
        self.transport.write(_FULL)
        self.on_response_complete()
        if not self.parser.should_keep_alive():
            self.transport.close()

    def _is_over_capacity(self) -> bool:
        if self.admission is None or self.parser.get_method() != b"POST" or self.expect_100_continue:
            return False
        if self.cycle is not None and not self.cycle.response_complete:
            return False  # replies must not overtake each other
        return not self.admission.admits(self.url)
