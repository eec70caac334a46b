"""HTTP/1.1 as uvicorn parses it, with a limit on a request's head and a word to what waits once its client has left.

The limit is on the head's size and on the time it may take to come. httptools has neither: a header may grow until
memory ends, and a connection may say nothing for ever. The word is a cancelled future: ASGI's own way to learn of a
client that left is to wait for a message, which takes each request two tasks more.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Final

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request's first line and headers; what proxies allow is less."""

_REFUSAL: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: application/json\r\nconnection: close\r\ncontent-length: 91\r\n\r\n"
    b'{"error":{"code":"headers_too_large","message":"the headers are longer than 65,536 bytes"}}'
)


def waiting_for(scope: Scope) -> set[asyncio.Future[Any]]:
    """What a request waits for: each is cancelled should its client leave."""
    waiting: set[asyncio.Future[Any]] = scope["state"].setdefault("waiting", set())
    return waiting


class Protocol(HttpToolsProtocol):
    """One connection. `head_seconds` is how long a request's head may take, from its first byte or the connection's."""

    head_seconds: ClassVar[float] = 30.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        self._waiting: set[asyncio.Future[Any]] = set()
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
        if self._head is not None:
            if not self._head:
                self._timer.cancel()
                self._timer = self.loop.call_later(self.head_seconds, self.transport.close)
            self._head += len(data)
        super().data_received(data)
        if self._head is not None and self._head > MAX_HEAD and not self.transport.is_closing():
            self.transport.write(_REFUSAL)
            self.transport.close()

    def on_headers_complete(self) -> None:
        """A request's head is whole."""
        self._head = None
        self._timer.cancel()
        self.scope["state"]["waiting"] = self._waiting
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request is whole; another may follow."""
        self._head = 0
        super().on_message_complete()
