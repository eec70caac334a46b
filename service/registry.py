"""Which models are loaded, and what answers for each: an engine behind a batcher."""

from __future__ import annotations

import time
from dataclasses import dataclass

from contract import repository
from contract.bundle import MODEL, Bundle, Card
from contract.errors import BundleError, BundleNotFound, UsageError
from service.batcher import Batcher
from service.engine import Engine
from service.metrics import Metrics
from service.settings import Settings


@dataclass(frozen=True)
class Served:
    """A version that answers requests."""

    bundle: Bundle
    batcher: Batcher

    @property
    def card(self) -> Card:
        """The model's card."""
        return self.bundle.card

    @property
    def name(self) -> str:
        """The model's name: its folder's, as in the repository."""
        return self.bundle.folder.parent.name

    @property
    def version(self) -> int:
        """The version's number."""
        return self.bundle.version


class Registry:
    """The newest version of every model in a repository.

    Args:
        settings: where the repository is, and how models run.
        metrics: told of batches and loads.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._served: dict[str, Served] = {}
        self._default = ""

    def load(self) -> None:
        """Load and warm the newest version of every model.

        Raises:
            BundleError: the repository is empty, or a bundle cannot be loaded or fails its warm-up.
            UsageError: the default model is not there.
        """
        root = self._settings.models
        names = list(repository.models(root))
        if not names:
            raise BundleNotFound(f"{root} holds no model: expected <name>/<version>/{MODEL}")
        wanted = self._settings.model
        if wanted and wanted not in names:
            raise UsageError(f"there is no model {wanted!r} in {root} (models there: {', '.join(names)})")
        for name in names:
            self._served[name] = self._start(repository.find(root, name))
        self._default = wanted or ("cifar10" if "cifar10" in names else names[0])

    def close(self) -> None:
        """Let go of every model; runs under way end first."""
        for served in self._served.values():
            served.batcher.close()

    def get(self, name: str | None = None, version: int | None = None) -> Served:
        """What answers for a model, the default one where none is named.

        Raises:
            BundleNotFound: no such model, or not in that version; the message lists what there is.
        """
        served = self._served.get(name or self._default)
        if served is None:
            raise BundleNotFound(f"there is no model {name!r} (models here: {', '.join(self._served)})")
        if version is not None and version != served.version:
            raise BundleNotFound(f"model {served.name!r} is served in version {served.version}, not {version}")
        return served

    def all(self) -> list[Served]:
        """Everything that answers requests, by name."""
        return list(self._served.values())

    @property
    def default(self) -> str:
        """The name of the model that answers where none is named."""
        return self._default

    def _start(self, of: Bundle) -> Served:
        start = time.perf_counter()
        if of.version == 0:
            raise BundleError(f"{of.folder} is not named by a version number")
        engine = Engine(of, self._settings.threads)
        engine.warm((1, self._settings.max_batch_size))
        name, version = of.folder.parent.name, str(of.version)
        metrics = self._metrics
        queue = metrics.queue_seconds.labels(name, version)
        inference = metrics.inference_seconds.labels(name, version)
        sizes = metrics.batch_size.labels(name, version)

        def watch(pictures: int, waited: float, took: float) -> None:
            sizes.observe(pictures)
            queue.observe(waited)
            inference.observe(took)

        batcher = Batcher(
            engine.run, watch, max_batch_size=self._settings.max_batch_size, max_queue=self._settings.max_queue
        )
        metrics.queue_depth.labels(name, version).set_function(lambda: batcher.depth)
        metrics.model_info.labels(name, version, of.card.training.get("recipe", "unknown")).set(1)
        metrics.load_seconds.labels(name, version).set(time.perf_counter() - start)
        metrics.shed.labels(name, version)
        return Served(of, batcher)
