"""What the routes of one application share."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from typing import Final, Literal

from fastapi import Request

from contract import repository
from contract.errors import BundleError, KernelscopeError
from service.inference.decoder import Decoder
from service.inference.loaded_model import Served, Stats
from service.inference.registry import Registry
from service.observability.metrics import Loaded, Metrics
from service.settings import Settings
from service.worker_group import Crew, Message

_LOAD_PATIENCE = 120.0
"""Seconds that another process of the crew has for loading a model."""

_COMMONEST: Final = b"/predict"
"""The request that is refused at the door: what asks for another model, say, is looked at more closely."""

Status = Literal["starting", "ready", "draining"]


@dataclass
class State:
    """An application's parts, and where it is in its life."""

    settings: Settings
    metrics: Metrics
    registry: Registry
    decoder: Decoder
    crew: Crew
    ready: bool = False
    draining: bool = False
    started: float = field(default_factory=time.monotonic)
    _let_in: int = 0
    _turned_away: int = 0
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def status(self) -> Status:
        """Where this process is, in a word."""
        if self.draining:
            return "draining"
        return "ready" if self.ready else "starting"

    def is_shut(self, path: bytes) -> bool:
        """Whether a POST to that path would find no room; if so, it is counted as refused. See `protocol.Door`."""
        served = self.registry.served(self.registry.default)
        if path != _COMMONEST or not served:
            return False
        newest = served[max(served)]
        if not newest.batcher.is_full(self._let_in, self.settings.timeout):
            if not self._let_in:  # the loop reads what has come on all connections, and only then runs their tasks
                asyncio.get_running_loop().call_soon(self._count_anew)
            self._let_in += 1
            return False
        if not self._turned_away:
            asyncio.get_running_loop().call_soon(self._tell, newest.labels)
        self._turned_away += 1
        return True

    def _count_anew(self) -> None:
        self._let_in = 0

    def _tell(self, labels: tuple[str, str]) -> None:
        self.metrics.shed.labels("queue_full").inc(self._turned_away)
        self.metrics.requests.labels(_COMMONEST.decode(), "POST", 503, *labels).inc(self._turned_away)
        self._turned_away = 0

    # --- what all processes of the crew say together

    async def health(self) -> tuple[Status, int]:
        """Where the crew is, which is ready once every process is; and how many images wait."""
        answers = await self.crew.ask({"ask": "status"})
        statuses = [self.status, *("starting" if one is None else one["status"] for one in answers)]
        waiting = self._waiting() + sum(one["waiting"] for one in answers if one)
        return next((one for one in ("draining", "starting") if one in statuses), "ready"), waiting

    async def page(self, accept: str) -> tuple[bytes, str]:
        """The metrics page, summed over the crew, and its content type."""
        answers = await self.crew.ask({"ask": "status"})
        loaded = [
            Loaded(one.name, one.version, one.card.training.recipe or "unknown", one.load_seconds)
            for one in self.registry.all()
        ]
        return self.metrics.page(accept, loaded, [os.getpid(), *(one["pid"] for one in answers if one)])

    async def stats(self, served: Served) -> Stats:
        """What a version has run, summed over the crew."""
        stats = served.stats
        for one in await self.crew.ask({"ask": "stats", "name": served.name, "version": served.version}):
            if one and one["stats"]:
                stats = stats.plus(one["stats"])
        return stats

    async def load(self, name: str, version: int | None) -> None:
        """`Registry.load` in every process. Raises what that raises, and `BundleError` where a process is away."""
        repository.find(self.settings.models, name, version)
        await self._change({"ask": "change", "to": "load", "name": name, "version": version})

    async def unload(self, name: str) -> None:
        """`Registry.unload` in every process. Raises as `load` does."""
        self.registry.versions(name)
        await self._change({"ask": "change", "to": "unload", "name": name, "version": None})

    async def _change(self, wish: Message) -> None:
        if self.crew.number:
            answers = [await self.crew.ask_one(0, wish, patience=2 * _LOAD_PATIENCE)]
        else:
            async with self._changing:
                await self._follow(wish)
                answers = await self.crew.ask({**wish, "ask": "follow"}, patience=_LOAD_PATIENCE)
        for one in answers:
            if one is None:
                raise BundleError("one of the processes is not there just now: ask again in a moment")
            if "error" in one:
                raise BundleError(one["error"])

    async def _follow(self, wish: Message) -> None:
        if wish["to"] == "load":
            await self.registry.load(wish["name"], wish["version"])
        else:
            await self.registry.unload(wish["name"])

    # --- what this process says to another

    async def answer(self, question: Message) -> Message:
        """Answer another process of the crew."""
        asked = question["ask"]
        if asked == "status":
            return {"status": self.status, "pid": os.getpid(), "waiting": self._waiting()}
        if asked == "stats":
            name, version = question["name"], question["version"]
            found = [one for one in self.registry.all() if (one.name, one.version) == (name, version)]
            return {"stats": found[0].stats.shared() if found else None}
        if asked == "wishes":
            return self.registry.wishes()
        try:
            await (self._change(question) if asked == "change" else self._follow(question))
        except KernelscopeError as error:
            return {"error": str(error)}
        return {}

    def _waiting(self) -> int:
        return sum(one.batcher.depth for one in self.registry.all())


def serving(request: Request, name: str | None, version: int | None) -> Served:
    """What answers for a model, as `Registry.get` finds it; the request is counted as that model's from here on."""
    served = of(request).registry.get(name, version)
    request.scope["state"]["labels"] = served.labels
    return served


def of(request: Request) -> State:
    """The state of the application that a request came to."""
    state: State = request.app.state.kernelscope
    return state
