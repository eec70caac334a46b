"""Rejections at the connection: a request that the queue has no room for costs little, and nothing further in.

Under four times the load that can be answered, rejecting is most of the work (docs/performance.md). Who may not ask at
all is not rejected here but told so further in: the queue is none of a stranger's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from service.http.access_log import Recorder, identify
from service.http.auth import ApiKeys
from service.http.context import RequestContext
from service.http.errors import OVERLOADED, RETRY_SECONDS, reply
from service.inference.registry import Registry

PATH: Final = b"/predict"
"""The request that is rejected at the connection; one that asks for another model, say, is looked at more closely."""
_ROUTE: Final = PATH.decode()
_STATUS: Final = HTTPStatus.SERVICE_UNAVAILABLE
_BODY: Final = bytes(reply(_ROUTE, _STATUS, *OVERLOADED).body)
_REPLY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: %d\r\ncontent-length: %d\r\n"
    % (RETRY_SECONDS, len(_BODY))
)


class AdmissionControl:
    """Decides at the connection whether a request may come in.

    Args:
        registry: whose default model's queue is asked.
        recorder: told of rejections.
        keys: of which a request must have sent one.
        timeout: seconds that a request has, where it does not say how many.
    """

    def __init__(self, registry: Registry, recorder: Recorder, keys: ApiKeys, *, timeout: float) -> None:
        self._registry, self._recorder, self._keys, self._timeout = registry, recorder, keys, timeout
        self._admitted = self._rejected = 0

    def check(self, url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Rejection | None:
        """Why a POST may not come in; None where it may, or where something else is to say so."""
        loaded = self._registry.newest(self._registry.default) if url == PATH else None
        if loaded is None or not self._keys.allow(_ROUTE, headers):
            return None
        if loaded.batcher.admits(1, arriving=self._admitted, time_left=self._timeout):
            if not self._admitted:  # the loop reads what has come on all connections, and only then runs their tasks
                asyncio.get_running_loop().call_soon(self._count_anew)
            self._admitted += 1
            return None
        return Rejection(self, loaded.metric_labels)

    def queued(self, url: bytes) -> None:
        """A request that was let in is in the queue by now: it arrives no more."""
        if url == PATH and self._admitted:
            self._admitted -= 1

    def record(self, scope: Any, context: RequestContext, metric_labels: tuple[str, str]) -> bytes:
        """Count a rejection and write its line in the log; returns the request's id."""
        identity = identify(scope["headers"], context)
        context.metric_labels = metric_labels
        if not self._rejected:
            asyncio.get_running_loop().call_soon(self._report)
        self._rejected += 1
        self._recorder.record(context, _STATUS, method="POST", path=_ROUTE, client=scope["client"], route=_ROUTE)
        return identity

    def _count_anew(self) -> None:
        self._admitted = 0

    def _report(self) -> None:
        self._recorder.metrics.shed.labels("queue_full").inc(self._rejected)
        self._rejected = 0


@dataclass(frozen=True, slots=True)
class Rejection:
    """A request that is rejected, once it is known whether its body comes soon."""

    control: AdmissionControl
    metric_labels: tuple[str, str]

    def reply(self, scope: Any, context: RequestContext, *, keep_alive: bool) -> bytes:
        """The reply, which is counted and logged as any other."""
        identity = self.control.record(scope, context, self.metric_labels)
        close = b"" if keep_alive else b"connection: close\r\n"
        return b"%bx-request-id: %b\r\n%b\r\n%b" % (_REPLY, identity, close, _BODY)
