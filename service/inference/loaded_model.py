"""A version that answers requests: its bundle, an engine behind a batcher, and what it has run."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from contract.bundle import Bundle
from contract.card import Card
from contract.preprocessing import Pixels
from contract.repository import Fingerprint
from service.inference.batcher import Batcher
from service.inference.engine import Engine
from service.inference.idle_cores import IdleCores
from service.inference.submission import Probabilities
from service.observability.metrics import Metrics
from service.settings import Settings

_SHORT_SECONDS: Final = 0.002
"""A run on one image that takes no longer than this is short: it is done on the event loop."""
_TURN_SECONDS: Final = 0.02
"""How long the event loop may stand still for a batch."""


@dataclass
class Stats:
    """What a version has run since it was loaded; told by its batcher's thread, read by whoever asks."""

    batches: dict[int, list[float]] = field(default_factory=dict)
    """By size: how many batches, and seconds that they took in all."""
    waited: float = 0.0
    last: float = 0.0

    def add(self, images: int, waited: float, took: float) -> None:
        """One more batch."""
        count = self.batches.setdefault(images, [0, 0.0])
        count[0] += 1
        count[1] += took
        self.waited += waited
        self.last = time.time()

    def plus(self, other: Stats) -> Stats:
        """These and another process' statistics of the same version."""
        sums = {size: list(figures) for size, figures in self.batches.items()}
        for size, (count, took) in dict(other.batches).items():
            mine = sums.setdefault(size, [0, 0.0])
            mine[0] += count
            mine[1] += took
        return Stats(sums, self.waited + other.waited, max(self.last, other.last))

    def describe(self, name: str, version: int) -> dict[str, Any]:
        """As the statistics extension of the Open Inference Protocol shows it."""
        batches = dict(self.batches)
        runs = int(sum(count for count, _ in batches.values()))
        images = int(sum(size * count for size, (count, _) in batches.items()))
        took = sum(seconds for _, seconds in batches.values())

        def part(count: int, seconds: float) -> dict[str, int]:
            return {"count": count, "ns": round(seconds * 1e9)}

        return {
            "name": name,
            "version": str(version),
            "last_inference": round(self.last * 1000),
            "inference_count": images,
            "execution_count": runs,
            "inference_stats": {
                "success": part(runs, self.waited + took),
                "fail": part(0, 0),
                "queue": part(runs, self.waited),
                "compute_input": part(runs, 0),
                "compute_infer": part(runs, took),
                "compute_output": part(runs, 0),
            },
            "batch_stats": [
                {"batch_size": size, "compute_infer": part(int(count), seconds)}
                for size, (count, seconds) in sorted(batches.items())
            ],
        }


@dataclass(frozen=True)
class LoadedModel:
    """A version that answers requests.

    Attributes:
        bundle: its folder and card.
        batcher: what runs it.
        stats: what it has run in this process.
        load_seconds: how long loading and warming took.
        digest: SHA-256 of the model and the card that were loaded.
        fingerprint: of their files then; see `repository.fingerprint`.
    """

    bundle: Bundle
    batcher: Batcher
    stats: Stats
    load_seconds: float
    digest: str
    fingerprint: Fingerprint | None

    @property
    def card(self) -> Card:
        """The model's card."""
        return self.bundle.card

    @cached_property  # each reply asks for it, and a path takes its time
    def name(self) -> str:
        """The model's name: its folder's, as in the repository."""
        return self.bundle.folder.parent.name

    @cached_property
    def version(self) -> int:
        """The version's number."""
        return self.bundle.version

    @cached_property
    def metric_labels(self) -> tuple[str, str]:
        """Name and version, as the metrics label it."""
        return self.name, str(self.version)


class _Watch:
    """Passes on what a batcher does: to the metrics, and to the version's own statistics."""

    def __init__(self, name: str, version: int, unsure_below: float, stats: Stats, metrics: Metrics) -> None:
        labels = (name, str(version))
        self._stats, self._unsure_below = stats, unsure_below
        self._confidences = metrics.confidence.labels(*labels)
        self._unsure = metrics.unsure.labels(*labels)
        self._depth = metrics.queue_depth.labels(*labels)
        self._sizes = metrics.batch_size.labels(*labels)
        self._waits = metrics.queue_seconds.labels(*labels)
        self._runs = metrics.inference_seconds.labels(*labels)

    def waiting(self, images: int) -> None:
        self._depth.set(images)

    def ran(self, images: int, waited: float, took: float) -> None:
        self._stats.add(images, waited, took)
        self._sizes.observe(images)
        self._waits.observe(waited)
        self._runs.observe(took)

    def answered(self, probabilities: Probabilities) -> None:
        """A batch's answers, float32 (N, classes); told on the batcher's thread."""
        for confidence in probabilities.max(1).tolist():
            if not math.isnan(confidence):  # one of a graph that overflowed would make the sum one for good
                self._confidences.observe(confidence)
            if confidence < self._unsure_below:
                self._unsure.inc()


def _on_loop(engine: Engine, settings: Settings) -> int:
    """Images that may be run at once on the event loop; 0 where a run is too long for that, or is another device's."""
    if settings.providers != "cpu" or engine.seconds > _SHORT_SECONDS:
        return 0
    return max(1, int(_TURN_SECONDS / engine.seconds))


def load(
    bundle: Bundle,
    settings: Settings,
    metrics: Metrics,
    fingerprint: Fingerprint | None = None,
    others: IdleCores | None = None,
) -> LoadedModel:
    """Load a bundle's model and warm it; this blocks.

    Args:
        bundle: what to load.
        settings: with the numbers of threads settled.
        metrics: told of each run.
        fingerprint: of the bundle's files.
        others: what the other processes do.

    Raises:
        BundleError: it cannot be served.
        UsageError: the settings name a provider that is not there.
    """
    start = time.perf_counter()
    engine = Engine(
        bundle,
        settings.threads,
        settings.providers,
        lone_threads=settings.lone_threads,
        others=others,
        is_alone=lambda: metrics.requests.in_flight <= 1,
    )
    engine.warm(settings.max_batch_size)
    stats = Stats()
    watch = _Watch(bundle.folder.parent.name, bundle.version, bundle.card.unsure_below, stats, metrics)

    def run(images: Pixels) -> Probabilities:
        probabilities = engine.run(images)
        watch.answered(probabilities)
        return probabilities

    batcher = Batcher(
        run,
        watch,
        max_batch_size=settings.max_batch_size,
        max_queue=settings.max_queue,
        max_queue_delay=settings.max_queue_delay,
        terminate=engine.terminate,
        on_loop=_on_loop(engine, settings),
    )
    return LoadedModel(bundle, batcher, stats, time.perf_counter() - start, engine.digest, fingerprint)
