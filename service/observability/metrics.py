"""Prometheus instruments of one application.

Where several processes serve on one socket, prometheus_client keeps the figures in files that all of them map, and a
page shows their sums, whichever process is asked (its multiprocess mode, which the supervisor chooses).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from prometheus_client import (
    GC_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

_SECONDS: Final = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Loaded:
    """What the page says of a version that is served."""

    name: str
    version: int
    recipe: str
    seconds: float


class Metrics:
    """What is counted and timed. Names and units follow Prometheus' conventions."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._several = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        model = ("model", "version")
        self.requests = Counter(
            "kernelscope_requests", "Requests answered.", ("route", "method", "code", *model), registry=registry
        )
        self.request_seconds = Histogram(
            "kernelscope_request_seconds",
            "From a request's first line to its reply's last byte.",
            ("route", *model),
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "kernelscope_requests_in_flight",
            "Requests being answered now.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.decode_seconds = Histogram(
            "kernelscope_decode_seconds",
            "Decoding and resizing one image.",
            model,
            buckets=_SECONDS,
            registry=registry,
        )
        self.refused_images = Counter(
            "kernelscope_refused_images", "Images that could not be read.", ("code",), registry=registry
        )
        self.shed = Counter(
            "kernelscope_shed_requests",
            "Requests refused for want of capacity: queue_full, or deadline.",
            ("reason",),
            registry=registry,
        )
        for reason in ("queue_full", "deadline"):
            self.shed.labels(reason)
        self.cancelled = Counter(
            "kernelscope_cancelled_requests", "Requests whose client left while they waited.", registry=registry
        )
        self.queue_seconds = Histogram(
            "kernelscope_queue_seconds",
            "Wait of a batch's oldest image for the model.",
            model,
            buckets=_SECONDS,
            registry=registry,
        )
        self.inference_seconds = Histogram(
            "kernelscope_inference_seconds",
            "One run of the model on a batch.",
            model,
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "kernelscope_batch_size_images",
            "Images in a batch.",
            model,
            buckets=_BATCHES,
            registry=registry,
        )
        self.queue_depth = Gauge(
            "kernelscope_queue_depth_images",
            "Images waiting for the model now.",
            model,
            registry=registry,
            multiprocess_mode="livesum",
        )

    def page(self, accept: str, loaded: Iterable[Loaded], processes: Iterable[int]) -> tuple[bytes, str]:
        """The metrics page and its content type: OpenMetrics where `accept` asks for it, else Prometheus text.

        Args:
            accept: the request's header.
            loaded: every version that is served.
            processes: the ids of the processes that serve, whose figures are summed.
        """
        whole = CollectorRegistry()
        if self._several:
            MultiProcessCollector(whole)  # type: ignore[no-untyped-call]
        else:
            whole.register(self._registry)
            whole.register(GC_COLLECTOR)
        PlatformCollector(registry=whole)
        whole.register(_Processes(processes))
        whole.register(_Models(loaded))
        encode: Callable[[CollectorRegistry], bytes]
        encode, content_type = choose_encoder(accept)
        return encode(whole), content_type


class _Models(Collector):
    def __init__(self, loaded: Iterable[Loaded]) -> None:
        self._loaded = list(loaded)

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "kernelscope_model_info",
            "One for each model version that is served.",
            labels=("model", "version", "recipe"),
        )
        seconds = GaugeMetricFamily(
            "kernelscope_model_load_seconds", "Loading and warming the model.", labels=("model", "version")
        )
        for one in self._loaded:
            info.add_metric((one.name, str(one.version), one.recipe), 1)
            seconds.add_metric((one.name, str(one.version)), one.seconds)
        yield info
        yield seconds


class _Processes(Collector):
    """The process figures that Prometheus' clients have in common, summed over several processes."""

    def __init__(self, processes: Iterable[int]) -> None:
        self._processes = list(processes)

    def collect(self) -> Iterator[Metric]:
        sums: dict[str, Metric] = {}
        for process in self._processes:
            for family in ProcessCollector(pid=partial(int, process), registry=None).collect():
                before = sums.setdefault(family.name, family)
                if before is not family:
                    join = min if family.name == "process_start_time_seconds" else _add
                    before.samples = [
                        one._replace(value=join(one.value, other.value))
                        for one, other in zip(before.samples, family.samples, strict=True)
                    ]
        yield from sums.values()


def _add(one: float, other: float) -> float:
    return one + other
