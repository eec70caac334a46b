"""Prometheus instruments, one registry an application, so that several can live in one process."""

from __future__ import annotations

from collections.abc import Callable
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

_SECONDS: Final = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """What is counted and timed. Names and units follow Prometheus' conventions."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        registry.register(GC_COLLECTOR)
        model = ("model", "version")
        self.requests = Counter(
            "kernelscope_requests", "Requests answered.", ("route", "method", "code"), registry=registry
        )
        self.request_seconds = Histogram(
            "kernelscope_request_seconds",
            "From a request's first line to its reply's last byte.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge("kernelscope_requests_in_flight", "Requests being answered now.", registry=registry)
        self.decode_seconds = Histogram(
            "kernelscope_decode_seconds",
            "Decoding and resizing one picture.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.refused_pictures = Counter(
            "kernelscope_refused_pictures", "Pictures that could not be read.", ("code",), registry=registry
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
            "Wait of a batch's oldest picture for the model.",
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
            "kernelscope_batch_size_pictures",
            "Pictures in a batch.",
            model,
            buckets=_BATCHES,
            registry=registry,
        )
        self.queue_depth = Gauge(
            "kernelscope_queue_depth_pictures", "Pictures waiting for the model now.", model, registry=registry
        )
        self.model_info = Gauge(
            "kernelscope_model_info",
            "One for each model version that is served.",
            (*model, "recipe"),
            registry=registry,
        )
        self.load_seconds = Gauge(
            "kernelscope_model_load_seconds", "Loading and warming the model.", model, registry=registry
        )

    def page(self, accept: str) -> tuple[bytes, str]:
        """The metrics page and its content type: OpenMetrics where `accept` asks for it, else Prometheus text."""
        encode: Callable[[CollectorRegistry], bytes]
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
