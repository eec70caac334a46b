"""Rejections at the connection: a request that the queue has no room for costs nothing further in.

Under four times the load that can be answered, rejecting is most of the work (docs/performance.md).
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

from service.inference.registry import Registry
from service.observability.metrics import Metrics

PATH: Final = b"/predict"
"""The request that is rejected at the connection; one that asks for another model, say, is looked at more closely."""


class AdmissionControl:
    """Decides at the connection whether a request may come in.

    Args:
        registry: whose default model's queue is asked.
        metrics: told of rejections.
        timeout: seconds that a request has, where it does not say how many.
    """

    def __init__(self, registry: Registry, metrics: Metrics, timeout: float) -> None:
        self._registry, self._metrics, self._timeout = registry, metrics, timeout
        self._admitted = self._rejected = 0

    def admits(self, path: bytes) -> bool:
        """Whether a POST to that path may come in; if not, it is counted as rejected."""
        loaded = self._registry.newest(self._registry.default) if path == PATH else None
        if loaded is None:
            return True
        if loaded.batcher.admits(1, arriving=self._admitted, time_left=self._timeout):
            if not self._admitted:  # the loop reads what has come on all connections, and only then runs their tasks
                asyncio.get_running_loop().call_soon(self._count_anew)
            self._admitted += 1
            return True
        if not self._rejected:
            asyncio.get_running_loop().call_soon(self._report, loaded.metric_labels)
        self._rejected += 1
        return False

    def _count_anew(self) -> None:
        self._admitted = 0

    def _report(self, metric_labels: tuple[str, str]) -> None:
        self._metrics.shed.labels("queue_full").inc(self._rejected)
        status = HTTPStatus.SERVICE_UNAVAILABLE
        self._metrics.requests.labels(PATH.decode(), "POST", status.value, *metric_labels).inc(self._rejected)
        self._rejected = 0
