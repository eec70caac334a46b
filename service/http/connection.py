"""uvicorn's HTTP/1.1 protocol, plus limits on what a client may send and how long it may take.

httptools has neither: a header or a trailer may grow until memory ends, and a connection may stay silent for ever.
Here a request's head and what frames its body are bounded in bytes, its head and a rejected body in time, and the
connections in number; a reply that comes before the request's end is sent so that the client can read it
(`service.http.lingering`). A body that a route reads is bounded there (`service.http.body`).

When a client disconnects, the futures that its request waits for are cancelled; ASGI's own way, waiting for a message,
costs each request two more tasks. When the queue is full, requests are rejected here (`service.http.admission`).
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.http.admission import AdmissionControl, Rejection
from service.http.context import RequestContext, attach
from service.http.lingering import LINGER_BYTES, LINGER_SECONDS, LingeringTransport

log = logging.getLogger("kernelscope")

MAX_HEAD: Final = 64 * 1024
"""Bytes of a request's first line, headers, trailers and what stands between chunks; proxies allow less."""
_CHUNK_LINE: Final = 32
"""Bytes of that which belong to a chunk, and are not counted."""
_OFFER: Final = (b"upgrade", b"http2-settings")


def _error(status: HTTPStatus, code: str, message: str) -> bytes:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    return b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        status.phrase.encode(),
        len(body),
        body,
    )


HEADERS_TOO_LARGE: Final = _error(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "headers_too_large",
    f"the headers and trailers are longer than {MAX_HEAD:,} bytes",
)
HEAD_TOO_SLOW: Final = _error(
    HTTPStatus.REQUEST_TIMEOUT, "request_timeout", "the request's headers took too long to come"
)
TOO_MANY_CONNECTIONS: Final = _error(
    HTTPStatus.SERVICE_UNAVAILABLE, "too_many_connections", "there are too many connections: try again in a moment"
)


@dataclass
class ConnectionLimits:
    """What the connections of one process may take, and those of them that wait for their client.

    Attributes:
        head_seconds: how long a request's head may take, from its first byte or the connection's.
        connections: how many there may be; beyond that, the one that has waited longest for its client is closed.
        waiting: connections on which a request, or the rest of one, is awaited, the longest waiting first.
    """

    head_seconds: float = 30.0
    connections: int = 4096
    waiting: dict[Connection, None] = field(default_factory=dict)


class Connection(HttpToolsProtocol):
    """One connection.

    Args:
        arguments, options: uvicorn's.
        limits: shared by all connections of a process.
        admission: which requests may come in; all where None.
        prefix: what a proxy may have left before the paths, such as `/kernelscope`; else empty.
    """

    transport: LingeringTransport

    def __init__(
        self,
        *arguments: Any,
        limits: ConnectionLimits | None = None,
        admission: AdmissionControl | None = None,
        prefix: str = "",
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.limits, self.admission, self._prefix = limits or ConnectionLimits(), admission, prefix.encode()
        self._pending: set[asyncio.Future[Any]] = set()
        self._context: RequestContext | None = None  # of the request whose body comes
        self._rejection: Rejection | None = None  # of that request
        self._offers_upgrade = False
        self._is_receiving = False  # a part of a request has come, and not its end
        self._head = 0  # bytes of the present request that are not its body
        self._discarded = 0  # bytes of a rejected request's body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        wrapped = LingeringTransport(transport, self.loop, lambda: self._is_receiving)
        super().connection_made(wrapped)
        self._timer = self.loop.call_later(self.limits.head_seconds, self._on_slow_head)
        if len(self.connections) > self.limits.connections:
            self._make_room()
        self.limits.waiting[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left."""
        self.limits.waiting.pop(self, None)
        self._timer.cancel()
        self.transport.closed()
        self.pipeline.clear()  # requests that nobody waits for any more
        for future in self._pending:
            future.cancel()
        self.pipeline.clear()  # nobody reads the replies to what it has asked beforehand
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self.transport.lingering:
            self.transport.discard(len(data))
            return
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
        begins = not self._head and self._context is None
        self._head += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self.send_400_response("this is not HTTP/1.1")
        if self.transport.is_closing():
            return
        if self._head > MAX_HEAD:
            self._refuse(HEADERS_TOO_LARGE)
        elif self._rejection and self._discarded > LINGER_BYTES:
            self._reject()
        elif begins and self._head and self._context is None:  # most heads come whole, and cost no timer
            self._timer.cancel()
            self._timer = self.loop.call_later(self.limits.head_seconds, self._on_slow_head)
        elif self._rejection and self._timer.cancelled():
            self._timer = self.loop.call_later(LINGER_SECONDS, self._reject)

    def on_message_begin(self) -> None:
        """A request's first byte has come."""
        self._is_receiving = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has come, or a trailer, which nobody reads."""
        if self._context is None:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A request's head is whole."""
        if self.parser.should_upgrade():
            self._offers_upgrade = True  # see `_feed`
            return
        self._timer.cancel()
        if self._prefix and self.url.startswith(self._prefix):
            self.url = self._without_prefix()
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # RFC 9110, section 10.1.1
        self._context = RequestContext(pending=self._pending, body_pending=True)
        self._rejection = self._admit()
        if self._rejection is None:
            attach(self.scope, self._context)
            super().on_headers_complete()
        elif self.expect_100_continue:
            self._reject()

    def on_chunk_header(self) -> None:
        """A chunk's first line has come."""
        self._head = max(0, self._head - _CHUNK_LINE)

    def on_body(self, body: bytes) -> None:
        """A part of a request's body has come."""
        self._head = max(0, self._head - len(body))
        if self._rejection is None:
            super().on_body(body)
        else:
            self._discarded += len(body)

    def on_message_complete(self) -> None:
        """A request is whole; another may follow."""
        if self._offers_upgrade or self._context is None:
            return
        self._head, self._is_receiving, self._context.body_pending = 0, False, False
        context, self._context = self._context, None
        if self._rejection is None:
            self.limits.waiting.pop(self, None)
            self.cycle.waiting_for_100_continue = False  # there is nothing to continue with
            super().on_message_complete()
            if not self.pipeline:
                self.flow.resume_reading()  # a large body paused it, and a client that leaves is noticed by reading
            return
        keep = self.parser.should_keep_alive()
        self._timer.cancel()
        if not self.transport.is_closing():
            self.transport.write(self._rejection.reply(self.scope, context, keep_alive=keep))
        self._rejection, self._discarded = None, 0
        self.on_response_complete()
        if not keep:
            self.transport.close()

    def on_response_complete(self) -> None:
        """A reply is sent."""
        if self._context is not None and not self.pipeline:
            self.transport.close()  # what is left of the request is not waited for
        if not self.pipeline:
            self.limits.waiting.pop(self, None)
            self.limits.waiting[self] = None
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.limits.head_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._unread.cancel()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or no address."""
        log.warning("a request is refused: %s", msg)
        self._refuse(_error(HTTPStatus.BAD_REQUEST, "invalid_request", msg))

    def _feed(self, data: bytes) -> None:
        """Parse what has come, and look over offers of another protocol.

        httptools takes a request that offers one, such as `Upgrade: h2c`, to end with its head. Who does not take the
        offer answers the request as if there were none (RFC 9110, section 7.8), so its head is read again without it.
        """
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if self.parser.get_method() == b"CONNECT":
                    self.send_400_response("CONNECT is not taken here")
                    return
                data = data[offer.args[0] :]
                head = self._head_without_offer()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                self._offers_upgrade = False
                self.parser.feed_data(head)
            else:
                return

    def _head_without_offer(self) -> bytes:
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                options = [option.strip() for option in value.split(b",")]
                value = b", ".join(option for option in options if option.lower() not in _OFFER)  # noqa: PLW2901
            if name not in _OFFER and (value or name != b"connection"):
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join([*lines, b"", b""])

    def _without_prefix(self) -> bytes:
        rest = self.url[len(self._prefix) :]
        if not rest or rest.startswith(b"?"):
            return b"/" + rest
        return rest if rest.startswith(b"/") else self.url

    def _admit(self) -> Rejection | None:
        """Why the request is rejected here; None where it may come in."""
        if self.admission is None or self.parser.get_method() != b"POST":
            return None
        if self.cycle is not None and not self.cycle.response_complete:
            return None  # replies must not overtake each other
        return self.admission.check(self.url, self.headers)

    def _reject(self) -> None:
        """Reject a request whose body does not come, or is too long to wait for its end."""
        if self._rejection and self._context and not self.transport.is_closing():
            self.transport.write(self._rejection.reply(self.scope, self._context, keep_alive=False))
            self.transport.close()

    def _on_slow_head(self) -> None:
        if self._head:
            self._refuse(HEAD_TOO_SLOW)
        else:
            self.transport.close()

    def _refuse(self, reply: bytes) -> None:
        """Answer and close, where no other reply is on its way; what the request has begun is given up."""
        cycle = self.cycle
        is_answered = cycle is None or cycle.response_complete
        if is_answered or (self._context is not None and not cycle.response_started and not self.pipeline):
            self.transport.write(reply)
        self._is_receiving = True
        self._give_up()
        self.transport.close()

    def _give_up(self) -> None:
        """Let what works on the request know that its client has gone."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        for future in self._pending:
            future.cancel()

    def _make_room(self) -> None:
        """Close the connection that has waited longest for its client; where none waits, refuse this one."""
        oldest = next(iter(self.limits.waiting), None)
        if oldest is None:
            self.transport.write(TOO_MANY_CONNECTIONS)
            self._is_receiving = True  # as far as is known
            self.transport.close()
        else:
            self.limits.waiting.pop(oldest)
            oldest.end_waiting()

    def end_waiting(self) -> None:
        """Close, to make room for another client."""
        self._give_up()
        if self._is_receiving:
            self.transport.abort()
        else:
            self.transport.close()
