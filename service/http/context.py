"""What is known of one request while it is answered; one for each, in its ASGI scope."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

NO_MODEL: Final = ("", "")
"""The metric labels of a request that asks for no model."""
_KEY: Final = "kernelscope"


@dataclass(slots=True)
class RequestContext:
    """A request's times, its id, the model that answers it, and what it waits for.

    Attributes:
        arrived: when its headers were complete, by `time.perf_counter`.
        deadline: until when an answer is of use, by the same clock.
        request_id: what the access log, the reply's `X-Request-ID` and traces call it.
        key: the name of the API key that it came with; empty without one.
        metric_labels: name and version of the model that answers it.
        pending: futures that it waits for; all are cancelled when its client disconnects.
        body_pending: whether a part of its body has not come yet.
        held: what is given back once it has been answered.
        is_refused: whether the connection has answered it, and recorded that.
    """

    arrived: float = field(default_factory=time.perf_counter)
    deadline: float = math.inf
    request_id: str = field(default_factory=lambda: secrets.token_hex(8))
    key: str = ""
    metric_labels: tuple[str, str] = NO_MODEL
    pending: set[asyncio.Future[Any]] = field(default_factory=set)
    body_pending: bool = False
    held: AsyncExitStack | None = None
    is_refused: bool = False

    @asynccontextmanager
    async def holding(self) -> AsyncIterator[None]:
        """Give back at the end of a block what was put in `held` in it; of nested ones, at the end of the outer."""
        if self.held is not None:
            yield
            return
        async with AsyncExitStack() as held:
            self.held = held
            try:
                yield
            finally:
                self.held = None

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.perf_counter()

    def seconds_until(self, age: float) -> float:
        """Seconds until the request is `age` seconds old."""
        return self.arrived + age - time.perf_counter()


def attach(scope: Any, context: RequestContext | None) -> None:
    """Make `context` the one of the request with this ASGI scope."""
    scope[_KEY] = context


def context_of(scope: MutableMapping[str, Any]) -> RequestContext:
    """The context of the request with this ASGI scope; a new one where the connection attached none."""
    if _KEY not in scope:
        scope[_KEY] = RequestContext()
    context: RequestContext = scope[_KEY]
    return context
