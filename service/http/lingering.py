"""A transport whose `close` lets the client read the reply first, and never waits for it without limit.

The system resets a connection that is closed while bytes of the client's have not been read, and the reply may be lost
on its way: `urllib` sends a whole body before it reads. So what the client still sends is read and thrown away, for a
while and up to a number of bytes, after this side has said that it sends no more.

Source: RFC 9112, section 9.6; nginx' `lingering_close`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

LINGER_SECONDS: Final = 5.0
"""How long a client may go on sending after the reply, and how long it may take to read what is left of one."""
LINGER_BYTES: Final = 64 * 2**20
"""How much a client may go on sending after the reply."""


class LingeringTransport(asyncio.Transport):
    """Wraps the transport of a connection.

    Args:
        transport: the one that the event loop made.
        loop: the event loop.
        is_receiving: whether the client is in the middle of a request.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, is_receiving: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._inner, self._loop, self._is_receiving = transport, loop, is_receiving
        self._left = LINGER_BYTES
        self._timer: asyncio.TimerHandle | None = None
        self.write, self.pause_reading, self.resume_reading = (  # type: ignore[method-assign]
            transport.write,
            transport.pause_reading,
            transport.resume_reading,
        )
        self.lingering = False

    def close(self) -> None:
        """Send what is written; then close, at once or once the client has had time to read it."""
        if self.lingering or self._inner.is_closing():
            return
        if self._is_receiving():
            self.lingering = True
            self.write = _ignore  # type: ignore[method-assign]
            self._inner.resume_reading()
            if self._inner.can_write_eof():
                self._inner.write_eof()
        else:
            self._inner.close()
        if self.lingering or self._inner.get_write_buffer_size():
            self._timer = self._loop.call_later(LINGER_SECONDS, self._inner.abort)

    def discard(self, length: int) -> None:
        """So many bytes have come after the reply."""
        self._left -= length
        if self._left < 0:
            self._inner.abort()

    def abort(self) -> None:
        """Close at once; what is not sent is lost."""
        self._inner.abort()

    def closed(self) -> None:
        """The connection is gone: what is written to it from now on is nobody's, and uvloop would raise."""
        self.write = self.pause_reading = self.resume_reading = _ignore  # type: ignore[method-assign]
        if self._timer:
            self._timer.cancel()

    def is_closing(self) -> bool:
        """Whether nothing more is answered."""
        return self.lingering or self._inner.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the wrapped transport knows of the connection."""
        return self._inner.get_extra_info(name, default)


def _ignore(data: object = None) -> None:
    """A reply that comes too late, or a word to a connection that is gone."""
