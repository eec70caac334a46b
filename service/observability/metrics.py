"""Prometheus instruments of one application, and the page that shows those of all its processes as one.

Each process counts in its own memory. Whoever is asked for the page asks the others for their figures and adds them up.
What a process has counted outlives it: it is kept in memory that the group shares (`worker_link.SharedMemory`), and the
process that takes its place starts from there. No files are needed, so no full disk can get in the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from service.observability.request_figures import RequestFigures

Families = tuple[Metric, ...]
"""What one process has counted and timed, by metric."""

_SECONDS: Final = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_CONFIDENCES: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class ModelInfo:
    """What the page says of a version that is served."""

    name: str
    version: int
    recipe: str
    seconds: float


class Metrics:
    """What is counted and timed. Names and units follow Prometheus' conventions."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        model = ("model", "version")
        self.requests = RequestFigures(_SECONDS)
        registry.register(self.requests)
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
        self.decode_queue_depth = Gauge(
            "kernelscope_decode_queue_depth_images",
            "Images waiting to be decoded now, large ones not counted.",
            registry=registry,
        )
        self.ended_decodes = Counter(
            "kernelscope_ended_decodes",
            "Decodes that were ended before they were through: by a limit, or as nobody waited any more.",
            ("reason",),
            registry=registry,
        )
        for reason in ("deadline", "killed", "memory", "no_longer_awaited", "processor_time"):
            self.ended_decodes.labels(reason)
        self.image_memory = Gauge(
            "kernelscope_image_memory_bytes",
            "Memory that is set aside for bodies and decoding now.",
            ("share",),
            registry=registry,
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
        self.confidence = Histogram(
            "kernelscope_confidence",
            "Probability of the likeliest class of each image that a model has answered.",
            model,
            buckets=_CONFIDENCES,
            registry=registry,
        )
        self.unsure = Counter(
            "kernelscope_unsure_images",
            "Images of whose class a model was unsure: its confidence was below the threshold on its card.",
            model,
            registry=registry,
        )
        self.feedback_images = Counter(
            "kernelscope_feedback_images",
            "Images that were kept for a person to look at: unsure, or disputed.",
            (*model, "kind"),
            registry=registry,
        )
        self.feedback_dropped = Counter(
            "kernelscope_feedback_dropped_images",
            "Images that were to be kept and were not, as: rate, full (the folder), storage (it failed), or busy.",
            ("reason",),
            registry=registry,
        )
        for reason in ("rate", "full", "storage", "busy"):
            self.feedback_dropped.labels(reason)
        self.feedback_bytes = Gauge(
            "kernelscope_feedback_bytes", "Bytes that kept images take on the disk.", registry=registry
        )
        self.key_requests = Counter(
            "kernelscope_key_requests", "Requests that came with an API key, by its name.", ("key",), registry=registry
        )
        self.key_limited = Counter(
            "kernelscope_key_limited_requests", "Those beyond their key's limit.", ("key",), registry=registry
        )
        self.key_images = Counter(
            "kernelscope_key_images",
            "Images that were answered to an API key, by its name.",
            ("key",),
            registry=registry,
        )
        self.key_file_errors = Counter(
            "kernelscope_key_file_errors", "Times that the file of API keys could not be read again.", registry=registry
        )
        self.queue_depth = Gauge(
            "kernelscope_queue_depth_images",
            "Images waiting for the model now.",
            model,
            registry=registry,
        )

    def figures(self, kept: Families = ()) -> Families:
        """What this process has counted, and `kept`: what the process counted whose place it has taken."""
        own = tuple(self._registry.collect())
        return total([own, [family for family in kept if family.type != "gauge"]]) if kept else own

    def page(
        self,
        accept: str,
        figures: Iterable[Iterable[Metric]],
        models: Iterable[ModelInfo],
        processes: Iterable[int],
    ) -> tuple[bytes, str]:
        """The metrics page and its content type: OpenMetrics where `accept` asks for it, else Prometheus text.

        Args:
            accept: the request's header.
            figures: of each process.
            models: every version that is served.
            processes: the ids of the processes that serve.
        """
        whole = CollectorRegistry()
        whole.register(_Collected(total(figures)))
        PlatformCollector(registry=whole)
        whole.register(_Processes(processes))
        whole.register(_Models(models))
        encode: Callable[[CollectorRegistry], bytes]
        encode, content_type = choose_encoder(accept)
        return encode(whole), content_type


def total(figures: Iterable[Iterable[Metric]]) -> Families:
    """The sums of several processes' figures; when each began to count is left out."""
    families: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], Sample]] = {}
    for family in (family for process in figures for family in process):
        if family.name not in families:
            families[family.name] = Metric(family.name, family.documentation, family.type, family.unit)
            values[family.name] = {}
        sums = values[family.name]
        for sample in family.samples:
            if sample.name.endswith("_created"):
                continue
            key = sample.name, tuple(sample.labels.items())
            before = sums.get(key)
            sums[key] = sample._replace(value=sample.value + before.value) if before else sample
    for name, family in families.items():
        family.samples = list(values[name].values())
    return tuple(families.values())


class _Collected(Collector):
    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


class _Models(Collector):
    def __init__(self, models: Iterable[ModelInfo]) -> None:
        self._info = list(models)

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "kernelscope_model_info",
            "One for each model version that is served.",
            labels=("model", "version", "recipe"),
        )
        seconds = GaugeMetricFamily(
            "kernelscope_model_load_seconds", "Loading and warming the model.", labels=("model", "version")
        )
        for model in self._info:
            info.add_metric((model.name, str(model.version), model.recipe), 1)
            seconds.add_metric((model.name, str(model.version)), model.seconds)
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
                        sample._replace(value=join(sample.value, other.value))
                        for sample, other in zip(before.samples, family.samples, strict=True)
                    ]
        yield from sums.values()


def _add(left: float, right: float) -> float:
    return left + right
