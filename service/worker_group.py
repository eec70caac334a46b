"""The processes that serve on one socket, as one service: their health, their figures, and what all of them serve.

Whoever a client has reached asks the others, and each answers for itself. What is loaded is decided by the first
process alone, the leader, and adopted by the others, so that two changes at once come in the same order to all.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
from dataclasses import dataclass
from typing import Final

from contract.errors import BundleError
from service.feedback.keeper import Feedback
from service.feedback.recent import Answered
from service.feedback.sample import Sample
from service.inference.loaded_model import LoadedModel, Stats
from service.inference.model_state import Canary, GroupState
from service.inference.registry import Registry
from service.lifecycle import Lifecycle, Phase
from service.observability.metrics import Families, Metrics, ModelInfo
from service.worker_link import WorkerLink

log = logging.getLogger("kernelscope")

LOAD_SECONDS: Final = 300.0
"""How long the processes of a group have for a change of what is loaded."""


# --- what they say to each other


@dataclass(frozen=True)
class StatusQuery:
    """How are you? Answered by `WorkerStatus`."""


@dataclass(frozen=True)
class WorkerStatus:
    """How a process is."""

    phase: Phase
    pid: int
    queued: int
    serves: bool


@dataclass(frozen=True)
class FiguresQuery:
    """What are your metrics? Answered by `Families`."""


@dataclass(frozen=True)
class StatsQuery:
    """What has this version run? Answered by `Stats`; None where it is not loaded."""

    name: str
    version: int


@dataclass(frozen=True)
class StateQuery:
    """What do you serve? Answered by `GroupState`."""


@dataclass(frozen=True)
class AnswerQuery:
    """What have you answered to this request? Answered by `Answered`; None where it is not remembered."""

    request_id: str


@dataclass(frozen=True)
class Keep:
    """To the leader: write this sample."""

    sample: Sample


@dataclass(frozen=True)
class Load:
    """To the leader: serve this model again. Raises what `Registry.load` raises."""

    name: str
    version: int | None


@dataclass(frozen=True)
class Unload:
    """To the leader: serve this model no more. Raises what `Registry.unload` raises."""

    name: str


@dataclass(frozen=True)
class StartCanary:
    """To the leader: let a version answer a part. Raises what `Registry.start_canary` raises."""

    name: str
    canary: Canary
    base: int | None


@dataclass(frozen=True)
class RollBack:
    """To the leader: let the base answer everything. Raises what `Registry.roll_back` raises."""

    name: str


@dataclass(frozen=True)
class Reconcile:
    """To the leader: these versions cannot be loaded any more as they are served."""

    lost: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Adopt:
    """From the leader: serve this. Answered by the versions that could not be loaded."""

    state: GroupState


class WorkerGroup:
    """This process and the others on the same socket.

    Args:
        link: to the others.
        lifecycle: of this process.
        registry: of this process.
        metrics: of this process.
        feedback: of this process; None where nothing is kept.
    """

    def __init__(
        self,
        link: WorkerLink,
        lifecycle: Lifecycle,
        registry: Registry,
        metrics: Metrics,
        feedback: Feedback | None = None,
    ) -> None:
        self._link, self._lifecycle, self._registry, self._metrics = link, lifecycle, registry, metrics
        self._feedback = feedback
        self._changing = asyncio.Lock()
        self._kept: Families = ()  # of the process whose place this one has taken
        with_figures = link.memory.figures[link.number].read()
        if with_figures:
            self._kept = pickle.loads(with_figures)  # noqa: S301 -- of a process of our own

    @property
    def size(self) -> int:
        """How many processes there are to be."""
        return self._link.size

    # --- living

    async def start(self) -> None:
        """Serve what the others serve, or, where there are none yet, what the settings want.

        Raises:
            BundleError: nothing can be served.
            UsageError: the default model is not there.
        """
        states = [state for state in await self._link.ask_serving(StateQuery()) if state]
        if states:
            failed = await self._registry.adopt(states[0])
            if failed and self._link.is_leader:
                self._registry.lose(failed)
                await self._registry.reconcile()
        else:
            await self._registry.start()
            failed = []
        await self._link.listen(self.answer)
        self._lifecycle.ready = True
        if failed:
            await self._lose(failed)

    def close(self) -> None:
        """Answer the others no more."""
        self._link.close()

    def keep_figures(self) -> None:
        """Leave this process' figures to the one that takes its place."""
        self._own_figures()

    # --- as one service

    async def status(self) -> tuple[Phase, int]:
        """The phase, which is ready once every process is and a model answers; and how many images are queued."""
        all_of_them = [self._status(), *await self._link.ask_all(StatusQuery())]
        phases = ["starting" if status is None or not status.serves else status.phase for status in all_of_them]
        queued = sum(status.queued for status in all_of_them if status)
        return next((phase for phase in ("draining", "starting", "overloaded") if phase in phases), "ready"), queued

    async def metrics_page(self, accept: str) -> tuple[bytes, str]:
        """The metrics page, summed over the processes, and its content type."""
        others = await self._link.ask_all(FiguresQuery())
        statuses = await self._link.ask_all(StatusQuery())
        models = [
            ModelInfo(model.name, model.version, model.card.training.recipe or "unknown", model.load_seconds)
            for model in self._registry.all()
        ]
        pids = [os.getpid(), *(status.pid for status in statuses if status)]
        return self._metrics.page(
            accept, [self._own_figures(), *(figures for figures in others if figures)], models, pids
        )

    async def stats(self, loaded: LoadedModel) -> Stats:
        """What a version has run, summed over the processes."""
        stats = loaded.stats
        for other in await self._link.ask_all(StatsQuery(loaded.name, loaded.version)):
            if other:
                stats = stats.plus(other)
        return stats

    async def answer_to(self, request_id: str) -> Answered | None:
        """What another process has answered to a request; None where none remembers it."""
        answers = await self._link.ask_all(AnswerQuery(request_id))
        return next((answered for answered in answers if answered), None)

    async def load(self, name: str, version: int | None) -> None:
        """`Registry.load` in every process. Raises what that raises, and `BundleError` where a process is away."""
        await self._change(Load(name, version))

    async def unload(self, name: str) -> None:
        """`Registry.unload` in every process; raises as `load` does."""
        await self._change(Unload(name))

    async def start_canary(self, name: str, canary: Canary, base: int | None) -> None:
        """`Registry.start_canary` in every process; raises as `load` does."""
        await self._change(StartCanary(name, canary, base))

    async def roll_back(self, name: str) -> None:
        """`Registry.roll_back` in every process; raises as `load` does."""
        await self._change(RollBack(name))

    async def watch(self, *, retry: bool = False) -> None:
        """Bring all processes in line with the repository; the leader alone does so. Raises as `Registry.reconcile`."""
        if self._link.is_leader:
            async with self._changing:
                if await self._registry.reconcile(retry=retry):
                    await self._spread()

    # --- how

    async def answer(self, message: object) -> object:
        """Answer another process of the group; what this raises is raised there."""
        match message:
            case StatusQuery():
                return self._status()
            case FiguresQuery():
                return self._own_figures()
            case StatsQuery(name, version):
                loaded = [model for model in self._registry.all() if (model.name, model.version) == (name, version)]
                return loaded[0].stats if loaded else None
            case StateQuery():
                return self._registry.state()
            case AnswerQuery(request_id):
                return self._feedback.find(request_id) if self._feedback else None
            case Keep(sample) if self._feedback:
                self._feedback.put(sample)
            case Adopt(state):
                return await self._registry.adopt(state)
            case Load() | Unload() | StartCanary() | RollBack():
                await self._change(message)
            case Reconcile(lost):
                await self._lose(list(lost))
        return ()

    async def _change(self, message: Load | Unload | StartCanary | RollBack) -> None:
        if not self._link.is_leader:
            if await self._link.ask(0, message, seconds=LOAD_SECONDS) is None:
                raise BundleError("one of the processes is not there just now: ask again in a moment")
            return
        async with self._changing:
            match message:
                case Load(name, version):
                    await self._registry.load(name, version)
                case Unload(name):
                    await self._registry.unload(name)
                case StartCanary(name, canary, base):
                    await self._registry.start_canary(name, canary, base)
                case RollBack(name):
                    await self._registry.roll_back(name)
            if not await self._spread():
                raise BundleError("one of the processes is not there just now: ask again in a moment")

    async def _spread(self) -> bool:
        """Let the others adopt what this process serves; returns whether all of them have."""
        answers = await self._link.ask_all(Adopt(self._registry.state()), seconds=LOAD_SECONDS)
        return all(answer is not None and not answer for answer in answers)

    async def _lose(self, versions: list[tuple[str, int]]) -> None:
        if not self._link.is_leader:
            await self._link.ask(0, Reconcile(tuple(versions)), seconds=LOAD_SECONDS)
            return
        async with self._changing:
            self._registry.lose(versions)
            await self._registry.reconcile()
            await self._spread()

    def _status(self) -> WorkerStatus:
        models = self._registry.all()
        queued = sum(loaded.batcher.depth for loaded in models)
        return WorkerStatus(self._lifecycle.phase, os.getpid(), queued, bool(models))

    def _own_figures(self) -> Families:
        figures = self._metrics.figures(self._kept)
        self._link.memory.figures[self._link.number].write(pickle.dumps(figures))
        return figures
