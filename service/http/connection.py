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
from http import HTTPStatus
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.http.access_log import Recorder, identify
from service.http.admission import AdmissionControl, Rejection
from service.http.connection_limits import (
    HEAD_TOO_SLOW,
    HEADERS_TOO_LARGE,
    MAX_HEAD,
    TOO_MANY_CONNECTIONS,
    ConnectionLimits,
    Refusal,
)
from service.http.context import RequestContext, attach
from service.http.errors import reply
from service.http.fast_path import Arriving, FastCall, FastPath, Match
from service.http.lingering import LINGER_BYTES, LINGER_SECONDS, LingeringTransport
from service.http.wire import written

_CHUNK_LINE: Final = 32
"""Bytes of that which belong to a chunk, and are not counted."""
_OFFER: Final = (b"upgrade", b"http2-settings")


_BODY_SECONDS: Final = 0.02
"""How long the fast path waits for the rest of a small body; FastAPI's route waits as long as it takes."""


class Connection(HttpToolsProtocol):
    """One connection.

    Args:
        arguments, options: uvicorn's.
        recorder: told of requests that are answered here.
        limits: shared by all connections of a process.
        admission: which requests may come in; all where None.
        fast: answers small requests; FastAPI answers all where None.
        prefix: what a proxy may have left before the paths, such as `/kernelscope`; else empty.
    """

    transport: LingeringTransport

    def __init__(
        self,
        *arguments: Any,
        recorder: Recorder,
        limits: ConnectionLimits | None = None,
        admission: AdmissionControl | None = None,
        fast: FastPath | None = None,
        prefix: str = "",
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.limits, self.admission, self._prefix = limits or ConnectionLimits(), admission, prefix.encode()
        self._recorder, self._fast = recorder, fast
        self._arriving: Arriving | None = None  # the request whose body comes, where it is one for the fast path
        self._call: FastCall | None = None  # the latest one that was answered there
        self._own: RequestResponseCycle | None = None  # of the request whose body comes, where FastAPI has it
        self._last: Refusal | None = None  # what is said once all requests before it are answered
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
        self.limits.count(len(self.connections))
        self._timer = self.loop.call_later(self.limits.head_seconds, self._on_slow_head)
        if len(self.connections) > self.limits.connections:
            self._make_room()
        self.limits.waiting[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left."""
        self.limits.waiting.pop(self, None)
        self._timer.cancel()
        self.transport.closed()
        if self._arriving:
            self._begin()  # so that it is recorded as any other whose client leaves
        for future in self._pending:
            future.cancel()
        if self._call:
            self._call.cancel()
        self.pipeline.clear()  # nobody reads the replies to what it has asked beforehand
        super().connection_lost(exc)
        self.limits.count(len(self.connections))

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self.transport.lingering or self._last:
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
        if self.transport.is_closing() or self._last:
            return
        if self._head > MAX_HEAD:
            self._refuse(HEADERS_TOO_LARGE)
        elif self._arriving and not self._arriving.patience:
            self._arriving.patience = self.loop.call_later(_BODY_SECONDS, self._begin)
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
        if self._context is not None:
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

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
            match = self._fast_match()
            if match:
                self._arriving = Arriving(match, self.headers, self._context)
            else:
                self._begin()
        elif self.expect_100_continue:
            self._reject()

    def on_chunk_header(self) -> None:
        """A chunk's first line has come."""
        self._head = max(0, self._head - _CHUNK_LINE)

    def on_body(self, body: bytes) -> None:
        """A part of a request's body has come."""
        self._head = max(0, self._head - len(body))
        if self._arriving:
            self._arriving.body.append(body)
        elif self._rejection is None:
            super().on_body(body)
        else:
            self._discarded += len(body)

    def on_message_complete(self) -> None:
        """A request is whole; another may follow."""
        if self._offers_upgrade or self._context is None:
            return
        self._head, self._is_receiving, self._context.body_pending = 0, False, False
        if self._arriving and self._answer_fast(self._arriving):
            return
        context, self._context, self._own = self._context, None, None
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
        if not self.pipeline:
            self.limits.waiting.pop(self, None)
            self.limits.waiting[self] = None
            if self._last and not self.transport.is_closing():
                self._say(self._last)
            elif self._context is not None:
                self.transport.close()  # what is left of the request is not waited for
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.limits.head_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._unread.cancel()
        super().resume_writing()

    def shutdown(self) -> None:
        """The service ends: answer what has come, and nothing more."""
        if self._arriving:
            self._begin()
        super().shutdown()

    def end(self) -> None:
        """The time is over that requests get at the end of the service. Those that are tasks are cancelled."""
        if self._call:
            self._call.end()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or no address."""
        self._refuse((HTTPStatus.BAD_REQUEST, "invalid_request", msg))

    def send_reply(self, reply: bytes, *, close: bool) -> None:
        """Send a whole reply."""
        self.transport.write(reply)
        if close:
            self.transport.close()
        self.on_response_complete()

    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of every reply, as uvicorn makes them."""
        return self.server_state.default_headers

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

    def _fast_match(self) -> Match | None:
        """The request's path, where it may be answered on the fast path."""
        if self._fast is None or self.parser.get_method() != b"POST":
            return None
        if self.expect_100_continue or self.flow.write_paused or self.pipeline or not self._is_answered():
            return None
        return self._fast.match(self.url, self.headers)

    def _is_answered(self) -> bool:
        """Whether no request before this one waits for its reply."""
        return self.cycle is None or self.cycle.response_complete

    def _answer_fast(self, arrived: Arriving) -> bool:
        """Answer a request that is here as a whole; returns False where it goes to FastAPI after all."""
        assert self._fast  # noqa: S101 -- there is no match without it
        context, before = self._context, self.cycle
        keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        self._call = FastCall(self._fast, self, arrived, path=self.url.decode("ascii"), keep_alive=keep_alive)
        self.cycle, self._context = self._call, None  # type: ignore[assignment]  # it has what is asked of a cycle
        self.limits.waiting.pop(self, None)
        if self._fast.answer(self._call):
            if self.admission:
                self.admission.queued(self.url)
            self._forget_arriving()
            return True
        self.cycle, self._context, self._call = before, context, None
        self._begin()
        return False

    def _begin(self) -> None:
        """Let FastAPI answer the request, of which the head is here, and perhaps a part of the body."""
        body = self._arriving.body if self._arriving else []
        self._forget_arriving()
        attach(self.scope, self._context)
        super().on_headers_complete()
        self._own = self.cycle
        for part in body:
            super().on_body(part)

    def _forget_arriving(self) -> None:
        if self._arriving and self._arriving.patience:
            self._arriving.patience.cancel()
        self._arriving = None

    def _admit(self) -> Rejection | None:
        """Why the request is rejected here; None where it may come in."""
        if self.admission is None or self.parser.get_method() != b"POST":
            return None
        if not self._is_answered():
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

    def _refuse(self, refusal: Refusal) -> None:
        """Refuse the request that comes, after the replies to those before it; what it has begun is given up."""
        self._timer.cancel()
        own, is_queued = self._own, bool(self.pipeline) and self.pipeline[0][0] is self._own
        if is_queued:
            self.pipeline.popleft()
        if is_queued or (own is None and not self._is_answered()):
            self._last = refusal
        elif own is not None and own.response_started:
            self._is_receiving = True
            self.transport.close()
        else:
            self._say(refusal)

    def _say(self, refusal: Refusal) -> None:
        """Reply to the request that comes, of which the head may not be whole, and close."""
        context = self._context or RequestContext()
        has_begun, headers = self._is_receiving, self.headers if self._is_receiving else []
        path = self.url.partition(b"?")[0].decode("latin-1") if has_begun else ""
        method = self.parser.get_method().decode("ascii") if self._context else ""
        identity = identify(headers, context)
        self._is_receiving = context.is_refused = True
        self._forget_arriving()
        self.transport.write(written(reply(path, *refusal), identity, self.default_headers(), close=True))
        self._recorder.record(context, refusal[0], method=method or "-", path=path or "-", client=self.client)
        self._give_up()
        self.transport.close()

    def _give_up(self) -> None:
        """Let what works on the request know that its client has gone."""
        if self._call:
            self._call.cancel()
        if not self._is_answered():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        for future in self._pending:
            future.cancel()

    def _make_room(self) -> None:
        """Close the connection that has waited longest for its client; where none waits, refuse this one."""
        oldest = next(iter(self.limits.waiting), None)
        if oldest is None:
            self._say(TOO_MANY_CONNECTIONS)  # whatever it asks
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
