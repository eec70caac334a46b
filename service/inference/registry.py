"""Which versions of which models answer requests: the repository and the desired state, reconciled.

One process of the worker group decides (`reconcile`), the others do as it did (`adopt`). A version is loaded and warmed
beside the one that serves, and takes its place in one assignment on the event loop; the one before finishes what it has
accepted. A version that cannot be served is refused, is tried again once its files change, and the newest version that
can be served answers in its stead. Nothing here reads a disk on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

from contract import repository
from contract.bundle import MODEL, Bundle
from contract.errors import BundleError, BundleNotFound, KernelscopeError, UsageError
from contract.repository import Fingerprint
from service.inference.idle_cores import IdleCores
from service.inference.loaded_model import LoadedModel, load
from service.inference.model_state import Canary, GroupState, ModelState, VersionStatus
from service.inference.model_versions import ModelVersions
from service.inference.models_folder import SCAN_SECONDS, ModelsFolder
from service.inference.refusal import Refusal
from service.observability.metrics import Metrics
from service.settings import Settings

log = logging.getLogger("kernelscope")


class Registry:
    """The models of a repository, and what answers for each.

    Args:
        settings: where the repository is, which versions are wanted, and how models run.
        metrics: told of batches and loads.
        trial: loads a bundle in a process of its own, once this one serves; raises `BundleError` where that fails.
        loading: entered while a version is loaded here, so that the supervisor knows what a death was caused by.
        fatal: versions that ended a process that loaded them: by model and version, why.
        others: what the other processes run.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        trial: Callable[[Bundle], Awaitable[None]] | None = None,
        loading: Callable[[str, int], AbstractContextManager[None]] = lambda name, version: nullcontext(),
        fatal: Mapping[tuple[str, int], Refusal] | None = None,
        others: IdleCores | None = None,
    ) -> None:
        self._settings, self._metrics, self._others = settings, metrics, others
        self._trial, self._loading = trial, loading
        self._models: dict[str, ModelVersions] = {}
        self._fatal = dict(fatal or {})
        for (name, version), refusal in self._fatal.items():
            self._model(name).refused[version] = refusal
        self._default = ""
        self._changing = asyncio.Lock()
        self._folder = ModelsFolder(settings.models)

    # --- asking

    @property
    def default(self) -> str:
        """The name of the model that answers where none is named."""
        return self._default

    def get(self, name: str | None = None, version: int | None = None) -> LoadedModel:
        """What answers for a model: the default one where none is named, its newest version where none is given.

        Raises:
            BundleNotFound: no such model, or not in that version; the message lists what there is.
        """
        model = self._models.get(name or self._default)
        if model is None or not model.loaded:
            names = ", ".join(other for other, state in self._models.items() if state.loaded) or "none"
            raise BundleNotFound(f"there is no model {name or self._default!r} (models here: {names})")
        if version is None:
            return model.base
        if version not in model.loaded:
            numbers = ", ".join(map(str, sorted(model.loaded)))
            raise BundleNotFound(
                f"model {name or self._default!r} is not served in version {version} (versions here: {numbers})"
            )
        return model.loaded[version]

    def choose(self, name: str | None = None, version: int | None = None) -> LoadedModel:
        """As `get`, but where no version is given and there is a canary, it answers its part."""
        model = self._models.get(name or self._default)
        return (
            model.choose() if version is None and model and model.canary and model.loaded else self.get(name, version)
        )

    def newest(self, name: str) -> LoadedModel | None:
        """The version of a model that answers requests which name none; None where there is none."""
        model = self._models.get(name)
        return model.base if model and model.loaded else None

    def share(self, loaded: LoadedModel) -> float:
        """The part of the requests for its model without a version that a loaded version answers, from 0 to 1."""
        model = self._models.get(loaded.name)
        return model.share(loaded) if model and model.loaded.get(loaded.version) is loaded else 0.0

    def all(self) -> list[LoadedModel]:
        """Every version that answers requests, by name and number."""
        return [model.loaded[number] for _, model in sorted(self._models.items()) for number in sorted(model.loaded)]

    def names(self) -> list[str]:
        """Every model in the repository, as it was listed last, or loaded."""
        return sorted({*self._folder.models, *(name for name, model in self._models.items() if model.loaded)})

    def versions(self, name: str) -> list[VersionStatus]:
        """Every version of a model in the repository or loaded, oldest first. Raises `BundleNotFound`."""
        model = self._models.get(name, ModelVersions())
        numbers = sorted({*model.loaded, *self._folder.models.get(name, ())})
        if not numbers:
            names = ", ".join(self.names()) or "none"
            raise BundleNotFound(f"there is no model {name!r} (models here: {names})")
        return [self._status(model, number) for number in numbers]

    def refused(self) -> list[tuple[str, VersionStatus]]:
        """Every version in the repository that was refused, by model; also those that another one answers for."""
        return [
            (name, VersionStatus(number, "refused", model.refused[number].reason))
            for name, model in sorted(self._models.items())
            for number in sorted(model.refused)
            if number in self._folder.models.get(name, ())
        ]

    def ignored(self) -> Mapping[str, str]:
        """What in the repository does not count as a model or a version, by its path, and why."""
        return self._folder.ignored

    def state(self) -> GroupState:
        """What this process serves, for another one to do the same."""
        states = {
            name: ModelState(
                model.pinned,
                model.unloaded,
                {number: loaded.digest for number, loaded in model.loaded.items()},
                dict(model.refused),
                model.canary,
            )
            for name, model in self._models.items()
        }
        return GroupState(self._default, states)

    async def refresh(self) -> None:
        """See what is in the folder now, for what `names`, `versions` and `ignored` tell; nothing is loaded."""
        await self._folder.refresh()

    # --- changing

    async def start(self) -> None:
        """List the repository and load what is wanted, before the first request.

        Raises:
            BundleError: there is no model, or none that can be served.
            UsageError: the default model is not there.
        """
        settings = self._settings
        await self._folder.scan()
        names = list(self._folder.models)
        if not names:
            raise BundleNotFound(
                f"{settings.models} holds no model: expected <name>/<version>/{MODEL}; {self._folder.why_empty()}"
            )
        if settings.model and settings.model not in names:
            raise UsageError(
                f"there is no model {settings.model!r} in {settings.models} (models there: {', '.join(names)})"
            )
        for name in names:
            await self._bring_in_line(name, trial=None)
        served = [name for name in names if self._models[name].loaded]
        if not served:
            raise BundleError(self._why_nothing(names))
        self._default = settings.model or repository.default(served)

    async def reconcile(self, *, retry: bool = False) -> bool:
        """Bring what is served in line with the repository and what was asked for; refusals are logged, never raised.

        Args:
            retry: whether to try what was refused before, though its files have not changed.

        Returns:
            Whether anything has changed.

        Raises:
            BundleNotFound: the repository cannot be listed.
            Unavailable: it did not answer in time.
        """
        async with self._changing:
            before = self.state()
            await self._folder.scan(SCAN_SECONDS)
            for name in self.names():
                if retry:
                    self._model(name).refused.clear()
                await self._bring_in_line(name, self._trial)
            return self.state() != before

    async def load(self, name: str, version: int | None = None) -> None:
        """Serve a model again, and stay with one version of it if one is given; that is also the way back.

        Raises:
            BundleNotFound: no such model or version in the repository.
            BundleError: it cannot be served; what served goes on.
            Unavailable: the repository did not answer in time.
        """
        async with self._changing:
            await self._folder.scan(SCAN_SECONDS)
            self._folder.check(name, version)
            model = self._model(name)
            before = model.pinned, model.unloaded, model.canary
            model.refused.clear()
            model.pinned, model.unloaded, model.canary = version, False, None
            newest = version or max(self._wanted(name), default=0)
            if newest not in model.loaded or self._changed(name, newest):
                error = await self._try(name, newest, self._trial)
                if error:
                    model.pinned, model.unloaded, model.canary = before
                    raise error
            await self._bring_in_line(name, self._trial)

    async def start_canary(self, name: str, canary: Canary, base: int | None = None) -> None:
        """Let a version answer a part of the requests that name none; all others are answered by another, the base.

        Both stay as they are, whatever is published, until the canary is rolled back or a version is loaded.

        Args:
            name: the model's.
            canary: the version, and its part.
            base: what it stands beside; what answers now where None.

        Raises:
            BundleNotFound: no such model or version.
            BundleError: one of the two cannot be served, or they are one; what served goes on.
            Unavailable: the repository did not answer in time.
        """
        async with self._changing:
            await self._folder.scan(SCAN_SECONDS)
            number = base or self.get(name).version
            model = self._model(name)
            for version in (canary.version, number):
                if version not in model.loaded:
                    self._folder.check(name, version)
            if canary.version == number:
                raise BundleError(
                    f"version {number} of {name} is what answers: name another version, or the base to go beside"
                )
            before = model.pinned, model.unloaded, model.canary
            model.refused.clear()
            # with nothing to answer yet, so that it does not answer all while it is the newest that is loaded
            model.pinned, model.unloaded, model.canary = number, False, Canary(canary.version, 0.0)
            for version in (number, canary.version):
                error = None if version in model.loaded else await self._try(name, version, self._trial)
                if error:
                    model.pinned, model.unloaded, model.canary = before
                    await self._bring_in_line(name, self._trial)
                    raise error
            model.canary = canary
            await self._bring_in_line(name, self._trial)
            log.info("%s: %d answers %g %% beside %d", name, canary.version, 100 * canary.weight, number)

    async def roll_back(self, name: str) -> None:
        """Let the base answer everything; the canary finishes what it has accepted. Raises `BundleNotFound`."""
        async with self._changing:
            self.versions(name)
            model = self._model(name)
            canary, model.canary = model.canary, None
            if canary and canary.version in model.loaded and model.pinned in model.loaded:
                log.info("%s: %d is rolled back", name, canary.version)
                await self._retire(name, [canary.version])

    async def unload(self, name: str) -> None:
        """Serve a model no more; requests that it has accepted are answered. Raises `BundleNotFound`."""
        async with self._changing:
            self.versions(name)
            model = self._model(name)
            model.unloaded, model.canary = True, None
            await self._retire(name, list(model.loaded))

    async def adopt(self, group: GroupState) -> list[tuple[str, int]]:
        """Serve what another process of the group serves: the same versions, with the same content.

        Returns:
            Versions that cannot be loaded here as they are there, because their files have changed or are gone.
        """
        failed: list[tuple[str, int]] = []
        async with self._changing:
            await self._folder.scan(SCAN_SECONDS)
            self._default = group.default
            for name, theirs in group.models.items():
                model = self._model(name)
                model.pinned, model.unloaded, model.refused = theirs.pinned, theirs.unloaded, dict(theirs.refused)
                model.canary = theirs.canary
                for number, digest in theirs.digests.items():
                    if number in model.loaded and model.loaded[number].digest == digest:
                        continue
                    # what has ended a process of this group while it was loaded is not tried once more
                    if self._is_fatal(name, number) or await self._try(name, number, None, digest):
                        failed.append((name, number))
                await self._retire(name, [number for number in model.loaded if number not in theirs.digests])
        return failed

    def lose(self, versions: list[tuple[str, int]]) -> None:
        """Another process cannot load these any more: where a model has another version, that one is to answer.

        Where the files have changed meanwhile, what they hold now is tried first.
        """
        for name, number in versions:
            model = self._model(name)
            model.lost.add(number)
            if number in model.loaded and not self._changed(name, number):
                fingerprint = model.loaded[number].fingerprint
                model.refused[number] = Refusal("another process of the group could not load it", fingerprint)

    def close(self) -> None:
        """Let go of every model; runs under way end first."""
        for loaded in self.all():
            loaded.batcher.close()
        self._folder.close()

    # --- how

    def _model(self, name: str) -> ModelVersions:
        return self._models.setdefault(name, ModelVersions())

    def _status(self, model: ModelVersions, number: int) -> VersionStatus:
        if number in model.loaded:
            return VersionStatus(number, "ready")
        if number in model.refused:
            return VersionStatus(number, "refused", model.refused[number].reason)
        return VersionStatus(number, "available")

    def _wanted(self, name: str) -> list[int]:
        """The versions that the policy names, whether they can be served or not, newest first."""
        there = sorted(self._folder.models.get(name, ()), reverse=True)
        model = self._model(name)
        if model.canary:
            return [number for number in there if number in (model.pinned, model.canary.version)]
        policy = str(model.pinned or self._settings.versions)
        return there if policy in ("latest", "all") else [number for number in there if str(number) == policy]

    def _target(self, name: str) -> list[int]:
        """The versions that should answer, of those that have not been refused: all, or the newest."""
        model = self._model(name)
        usable = [
            number
            for number in self._wanted(name)
            if (number in model.loaded and number not in model.lost) or not self._is_refused(name, number)
        ]
        return usable if model.canary or (self._settings.versions == "all" and not model.pinned) else usable[:1]

    def _is_refused(self, name: str, number: int) -> bool:
        refusal = self._model(name).refused.get(number)
        if refusal is None:
            return False
        return refusal.fingerprint is None or refusal.fingerprint == self._folder.fingerprint(name, number)

    def _is_fatal(self, name: str, number: int) -> bool:
        refusal = self._fatal.get((name, number))
        there = self._folder.fingerprint(name, number)
        return refusal is not None and refusal.fingerprint in (None, there)

    def _changed(self, name: str, number: int) -> bool:
        """Whether a loaded version's files are others now than when it was loaded."""
        return self._model(name).loaded[number].fingerprint != self._folder.fingerprint(name, number)

    def _next(self, name: str) -> int | None:
        """The next version to load, if there is one."""
        model = self._model(name)
        for number in self._target(name):
            if number not in model.loaded:
                return number
            if self._changed(name, number) and not self._is_refused(name, number):
                return number
        return None

    async def _bring_in_line(self, name: str, trial: Callable[[Bundle], Awaitable[None]] | None) -> None:
        model = self._model(name)
        if model.unloaded:
            return
        while (number := self._next(name)) is not None:
            await self._try(name, number, trial)
        target = self._target(name)
        if any(number in model.loaded for number in target):
            await self._retire(name, [number for number in model.loaded if number not in target])

    async def _try(
        self, name: str, number: int, trial: Callable[[Bundle], Awaitable[None]] | None, digest: str | None = None
    ) -> KernelscopeError | None:
        """Load a version and let it answer, or refuse it; returns why it was refused."""
        fingerprint = self._folder.fingerprint(name, number)
        try:
            bundle = await self._folder.find(name, number)
            self._check_size(bundle, name)
            if trial:
                await trial(bundle)
            loaded = await self._folder.run(lambda: self._load(bundle, fingerprint))
            if digest not in (None, loaded.digest):
                loaded.batcher.close()
                raise BundleError(f"{bundle.folder} has changed since the other processes loaded it")
        except UsageError:  # the settings are wrong, not this version
            raise
        except KernelscopeError as error:
            self._model(name).refused[number] = Refusal(str(error), fingerprint)
            log.error("%s %d is refused: %s", name, number, error)  # noqa: TRY400 -- one line for a bad model
            return error
        await self._install(loaded)
        return None

    def _check_size(self, bundle: Bundle, name: str) -> None:
        """Clients that send pixels rely on a model's size: a version of another one is another model."""
        newest = self.newest(name)
        if newest and (bundle.card.height, bundle.card.width) != (newest.card.height, newest.card.width):
            raise BundleError(
                f"version {bundle.version} of {name} takes {bundle.card.height}x{bundle.card.width} images, the one "
                f"that serves {newest.card.height}x{newest.card.width}: publish it under another name"
            )

    def _load(self, bundle: Bundle, fingerprint: Fingerprint | None) -> LoadedModel:
        with self._loading(bundle.folder.parent.name, bundle.version):
            return load(bundle, self._settings, self._metrics, fingerprint, self._others)

    async def _install(self, loaded: LoadedModel) -> None:
        model = self._model(loaded.name)
        before = model.loaded.get(loaded.version)
        model.loaded[loaded.version] = loaded
        model.refused.pop(loaded.version, None)
        model.lost.discard(loaded.version)
        if before:
            await before.batcher.drain()
        log.info("serving %s %d", loaded.name, loaded.version)

    async def _retire(self, name: str, numbers: list[int]) -> None:
        model = self._model(name)
        for number in numbers:
            loaded = model.loaded.pop(number)
            model.lost.discard(number)
            # a request that has just asked for this version may not have reached the batcher: it still finds it open
            await loaded.batcher.drain()
            log.info("%s %d serves no more", name, number)

    def _why_nothing(self, names: list[str]) -> str:
        for name in names:
            model = self._model(name)
            if model.refused:
                return model.refused[max(model.refused)].reason
        versions = ", ".join(map(str, self._folder.models[names[0]]))
        return f"model {names[0]!r} has no version {self._settings.versions} (versions there: {versions})"
