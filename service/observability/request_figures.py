"""What is counted of every request: plain numbers, for the instruments of prometheus_client take several microseconds.

They are counted on the event loop alone, so there is no lock; whoever asks for the metrics is on it as well.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_MODEL: Final = ("model", "version")


class _Times:
    """A histogram: how many fell into each bucket, and their sum."""

    __slots__ = ("counts", "sum")

    def __init__(self, buckets: int) -> None:
        self.counts, self.sum = [0] * buckets, 0.0


class RequestFigures(Collector):
    """Requests that were answered, how long each took, and how many are being answered now.

    Attributes:
        in_flight: requests being answered now.

    Args:
        buckets: upper bounds of the histogram of times, in seconds, ascending.
    """

    def __init__(self, buckets: Sequence[float]) -> None:
        self._bounds = tuple(buckets)
        self._names = (*map(floatToGoString, buckets), "+Inf")
        self._counts: dict[tuple[str, str, int, tuple[str, str]], int] = {}
        self._times: dict[tuple[str, tuple[str, str]], _Times] = {}
        self.in_flight = 0

    def add(self, route: str, method: str, status: int, model: tuple[str, str], seconds: float) -> None:
        """Count one request.

        Args:
            route: the template of its path, of which there are few.
            method: such as POST.
            status: of its reply.
            model: name and version of what answered it; empty where nothing did.
            seconds: that it took.
        """
        key = route, method, int(status), model
        self._counts[key] = self._counts.get(key, 0) + 1
        times = self._times.get((route, model))
        if times is None:
            times = self._times[route, model] = _Times(len(self._names))
        times.counts[bisect_left(self._bounds, seconds)] += 1
        times.sum += seconds

    def collect(self) -> Iterator[Metric]:
        """The figures, as Prometheus' library exposes them."""
        yield GaugeMetricFamily(
            "kernelscope_requests_in_flight", "Requests being answered now.", value=float(self.in_flight)
        )
        requests = CounterMetricFamily(
            "kernelscope_requests", "Requests answered.", labels=("route", "method", "code", *_MODEL)
        )
        for (route, method, status, model), count in self._counts.items():
            requests.add_metric((route, method, str(status), *model), count)
        yield requests
        seconds = HistogramMetricFamily(
            "kernelscope_request_seconds",
            "From a request's first line to its reply's last byte.",
            labels=("route", *_MODEL),
        )
        for (route, model), times in self._times.items():
            total, buckets = 0, []
            for name, count in zip(self._names, times.counts, strict=True):
                total += count
                buckets.append((name, float(total)))
            seconds.add_metric((route, *model), buckets, times.sum)
        yield seconds
