"""HTTP/1.1 as uvicorn parses it, with a limit on a request's head and a word to what waits once its client has left.

The limit is on the head's size and on the time it may take to come. httptools has neither: a header may grow until
memory ends, and a connection may say nothing for ever. The word is a cancelled future: ASGI's own way to learn of a
client that left is to wait for a message, which takes each request two tasks more.

And with a door: a request that the queue has no room for is turned away here, for a tenth of what it costs further in.
Under four times the load that can be answered, refusing is most of the work.
"""

from __future__ import annotations

import asyncio
import typing
from http import HTTPStatus
from typing import Any, ClassVar, Final

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.http.errors import OVERLOADED, RETRY_SECONDS, reply

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request's first line and headers; what proxies allow is less."""

_REFUSAL: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: application/json\r\nconnection: close\r\ncontent-length: 91\r\n\r\n"
    b'{"error":{"code":"headers_too_large","message":"the headers are longer than 65,536 bytes"}}'
)
_BUSY: Final = bytes(reply("/predict", HTTPStatus.SERVICE_UNAVAILABLE, *OVERLOADED).body)
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: %d\r\n"
    b"content-length: %d\r\n\r\n%b" % (RETRY_SECONDS, len(_BUSY), _BUSY)
)


def waiting_for(scope: Scope) -> set[asyncio.Future[Any]]:
    """What a request waits for: each is cancelled should its client leave."""
    waiting: set[asyncio.Future[Any]] = scope["state"].setdefault("waiting", set())
    return waiting


class Door(typing.Protocol):
    """Who may come in."""

    def is_shut(self, path: bytes) -> bool:
        """Whether a POST to that path would be refused for want of room; if so, it is counted as refused."""


class Protocol(HttpToolsProtocol):
    """One connection.

    Attributes:
        head_seconds: how long a request's head may take, from its first byte or the connection's.
        door: who may come in; everybody where None.
    """

    head_seconds: ClassVar[float] = 30.0
    door: ClassVar[Door | None] = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        self._waiting: set[asyncio.Future[Any]] = set()
        self._turned_away = False
        self._head: int | None = 0  # bytes of the present request's head so far; None while its body comes
        self._timer = self.loop.call_later(self.head_seconds, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left."""
        self._timer.cancel()
        for future in self._waiting:
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
            self.transport.write(_REFUSAL)
            self.transport.close()
        elif begins:  # most heads come whole, and cost no timer
            self._timer.cancel()
            self._timer = self.loop.call_later(self.head_seconds, self.transport.close)

    def on_headers_complete(self) -> None:
        """A request's head is whole."""
        self._head = None
        self._timer.cancel()
        self._turned_away = self._is_turned_away()
        if not self._turned_away:
            self.scope["state"]["waiting"] = self._waiting
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a request's body has come."""
        if not self._turned_away:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole; another may follow."""
        self._head = 0
        if not self._turned_away:
            super().on_message_complete()
            return
        self.transport.write(_FULL)
        self.on_response_complete()
        if not self.parser.should_keep_alive():
            self.transport.close()

    def _is_turned_away(self) -> bool:
        if self.door is None or self.parser.get_method() != b"POST" or self.expect_100_continue:
            return False
        if self.cycle is not None and not self.cycle.response_complete:
            return False  # replies must not overtake each other
        return self.door.is_shut(self.url)
