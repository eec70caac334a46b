"""Which versions of which models answer requests: load, warm, swap, retire, go back.

A version is loaded and warmed beside the one that serves; only then does it take its place, in one assignment on the
event loop. The one before finishes what it has accepted and is let go. What cannot be served is refused, and what
served goes on.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Literal

from contract import repository
from contract.bundle import MODEL
from contract.errors import BundleError, BundleNotFound, KernelscopeError, UsageError
from service.inference.loaded_model import Served, load
from service.observability.metrics import Metrics
from service.settings import Settings

log = logging.getLogger("kernelscope")

Status = Literal["ready", "refused", "available"]


@dataclass(frozen=True)
class VersionStatus:
    """A version in the repository: whether it answers requests, and if it was refused, why."""

    version: int
    status: Status
    reason: str = ""


@dataclass(frozen=True)
class _Refused:
    """Why a version was refused, and what its files were then: once they change, it is tried again."""

    reason: str
    files: tuple[tuple[int, int], ...]


@dataclass
class _Model:
    served: dict[int, Served] = field(default_factory=dict)
    refused: dict[int, _Refused] = field(default_factory=dict)
    pinned: int | None = None
    unloaded: bool = False


class Registry:
    """The models of a repository, and what answers for each.

    Args:
        settings: where the repository is, which versions are wanted, and how models run.
        metrics: told of batches and loads.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._models: dict[str, _Model] = {}
        self._default = ""
        self._changing = asyncio.Lock()

    # --- asking

    @property
    def default(self) -> str:
        """The name of the model that answers where none is named."""
        return self._default

    def get(self, name: str | None = None, version: int | None = None) -> Served:
        """What answers for a model: the default one where none is named, its newest version where none is given.

        Raises:
            BundleNotFound: no such model, or not in that version; the message lists what there is.
        """
        model = self._models.get(name or self._default)
        if model is None or not model.served:
            there = ", ".join(one for one, found in self._models.items() if found.served) or "none"
            raise BundleNotFound(f"there is no model {name or self._default!r} (models here: {there})")
        if version is None:
            return model.served[max(model.served)]
        if version not in model.served:
            there = ", ".join(map(str, sorted(model.served)))
            raise BundleNotFound(
                f"model {name or self._default!r} is not served in version {version} (versions here: {there})"
            )
        return model.served[version]

    def served(self, name: str) -> dict[int, Served]:
        """The versions of a model that answer requests, by number; none where there is no such model."""
        model = self._models.get(name)
        return model.served if model else {}

    def all(self) -> list[Served]:
        """Every version that answers requests, by name and number."""
        return [model.served[number] for _, model in sorted(self._models.items()) for number in sorted(model.served)]

    def names(self) -> list[str]:
        """Every model in the repository or served."""
        there = repository.models(self._settings.models) if self._settings.models.is_dir() else ()
        return sorted({*there, *(name for name, model in self._models.items() if model.served)})

    def versions(self, name: str) -> list[VersionStatus]:
        """Every version of a model in the repository or served, oldest first. Raises `BundleNotFound`."""
        model = self._models.get(name, _Model())
        numbers = sorted({*model.served, *repository.versions(self._settings.models, name)})
        if not numbers:
            raise BundleNotFound(f"there is no model {name!r} (models here: {', '.join(self.names())})")
        found = []
        for number in numbers:
            if number in model.served:
                found.append(VersionStatus(number, "ready"))
            elif number in model.refused:
                found.append(VersionStatus(number, "refused", model.refused[number].reason))
            else:
                found.append(VersionStatus(number, "available"))
        return found

    # --- changing

    def start(self) -> None:
        """Load what is wanted, before the first request; this blocks.

        Raises:
            BundleError: there is no model, or none of a model's versions can be served.
            UsageError: the default model is not there.
        """
        settings = self._settings
        root, wanted = settings.models, settings.model
        names = list(repository.models(root))
        if not names:
            raise BundleNotFound(f"{root} holds no model: expected <name>/<version>/{MODEL}")
        if wanted and wanted not in names:
            raise UsageError(f"there is no model {wanted!r} in {root} (models there: {', '.join(names)})")
        self._default = wanted or repository.default(names)
        for name in names:
            model = self._models[name] = _Model()
            for number in self._wanted(name):
                try:
                    self._install(self._load(name, number))
                except BundleError as error:
                    self._refuse(name, number, error)
            if not model.served and not model.refused:
                numbers = ", ".join(map(str, repository.versions(root, name)))
                raise BundleNotFound(f"model {name!r} has no version {settings.versions} (versions there: {numbers})")
            if not model.served:
                raise BundleError(model.refused[max(model.refused)].reason)

    async def sync(self, *, again: bool = False) -> None:
        """Bring what is served in line with the repository and the settings; refusals are logged, never raised.

        Args:
            again: whether to try what was refused before, though its files have not changed.
        """
        async with self._changing:
            for name in self.names():
                model = self._models.setdefault(name, _Model())
                if model.unloaded:
                    continue
                wanted = self._wanted(name)
                for number in wanted:
                    before = model.refused.get(number)
                    if number in model.served or (before and not again and before.files == self._files(name, number)):
                        continue
                    try:
                        await self._swap_in(name, number)
                    except KernelscopeError as error:
                        self._refuse(name, number, error)
                if any(number in model.served for number in wanted):
                    await self._retire(name, [number for number in model.served if number not in wanted])

    async def load(self, name: str, version: int | None = None) -> None:
        """Serve a model again, and stay with one version of it if one is given; that is also the way back.

        Raises:
            BundleNotFound: no such model or version in the repository.
            BundleError: it cannot be served; what served goes on.
        """
        repository.find(self._settings.models, name, version)
        async with self._changing:
            model = self._models.setdefault(name, _Model())
            model.refused.clear()
            before, model.pinned = model.pinned, version
            try:
                for number in self._wanted(name):
                    if number not in model.served:
                        await self._swap_in(name, number)
            except KernelscopeError:
                model.pinned = before
                raise
            model.unloaded = False
            await self._retire(name, [number for number in model.served if number not in self._wanted(name)])

    async def unload(self, name: str) -> None:
        """Serve a model no more; requests that it has accepted are answered. Raises `BundleNotFound`."""
        self.versions(name)
        async with self._changing:
            model = self._models.setdefault(name, _Model())
            model.unloaded = True
            await self._retire(name, list(model.served))

    def wishes(self) -> dict[str, tuple[int | None, bool]]:
        """What `load` and `unload` asked for: by model, the version that is pinned, and whether it is unloaded."""
        return {name: (model.pinned, model.unloaded) for name, model in self._models.items()}

    async def follow(self, wishes: dict[str, tuple[int | None, bool]]) -> None:
        """Bring what is served in line with another process' `wishes`."""
        async with self._changing:
            for name, (pinned, unloaded) in wishes.items():
                model = self._models.setdefault(name, _Model())
                model.pinned, model.unloaded = pinned, unloaded
                if unloaded:
                    await self._retire(name, list(model.served))
        await self.sync()

    def close(self) -> None:
        """Let go of every model; runs under way end first."""
        for served in self.all():
            served.batcher.close()

    # --- how

    def _wanted(self, name: str) -> list[int]:
        there = repository.versions(self._settings.models, name)
        policy = str(self._models[name].pinned or self._settings.versions)
        if policy == "all":
            return there
        if policy == "latest":
            return there[-1:]
        return [number for number in there if str(number) == policy]

    async def _swap_in(self, name: str, number: int) -> None:
        served = await asyncio.to_thread(self._load, name, number)
        self._install(served)
        log.info("serving %s %d", name, number)

    def _load(self, name: str, number: int) -> Served:
        of = repository.find(self._settings.models, name, number)
        now = self._models[name].served
        if now:
            card = now[max(now)].card
            if (of.card.height, of.card.width) != (card.height, card.width):
                raise BundleError(
                    f"version {number} of {name} takes {of.card.height}x{of.card.width} images, the one that serves "
                    f"{card.height}x{card.width}: publish it under another name"
                )
        return load(of, self._settings, self._metrics)

    def _install(self, served: Served) -> None:
        model = self._models[served.name]
        model.served[served.version] = served
        model.refused.pop(served.version, None)

    async def _retire(self, name: str, numbers: list[int]) -> None:
        for number in numbers:
            served = self._models[name].served.pop(number)
            # a request that has just asked for this version may not have reached the batcher: it still finds it open
            await served.batcher.drain()
            log.info("%s %d serves no more", name, number)

    def _files(self, name: str, number: int) -> tuple[tuple[int, int], ...]:
        """When a version's files were changed, and how long they are."""
        stats = (path.stat() for path in sorted((self._settings.models / name / str(number)).iterdir()))
        return tuple((one.st_mtime_ns, one.st_size) for one in stats)

    def _refuse(self, name: str, number: int, error: KernelscopeError) -> None:
        self._models[name].refused[number] = _Refused(str(error), self._files(name, number))
        log.error("%s %d is refused: %s", name, number, error)
