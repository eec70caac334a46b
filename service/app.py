"""The application: its parts, put together."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from contract.bundle import Bundle
from contract.cpu import cores
from contract.errors import KernelscopeError
from contract.version import VERSION
from service.explanation.explainer import Explainer
from service.feedback.keeper import Feedback
from service.feedback.sample import Sample
from service.http import auth, errors
from service.http.access_log import AccessLog
from service.http.auth import ApiKeys, Authentication
from service.http.fast_route import FastRoute
from service.inference import memory_budget
from service.inference.decoder import Decoder
from service.inference.idle_cores import IdleCores
from service.inference.refusal import Refusal
from service.inference.registry import Registry
from service.inference.trial import try_to_load
from service.lifecycle import Lifecycle
from service.observability import tracing
from service.observability.metrics import Metrics
from service.routes import (
    explain,
    feedback,
    health,
    metrics,
    models,
    open_inference,
    page,
    predict,
    tensorflow_serving,
)
from service.settings import Settings
from service.state import AppState
from service.worker_group import Keep, WorkerGroup
from service.worker_link import WorkerLink

log = logging.getLogger("kernelscope")

DESCRIPTION = (
    "Says what is in an image. Every refusal is `{'error': {'code', 'message'}}` and says what would be right."
)


def create_state(
    settings: Settings, link: WorkerLink, fatal: Mapping[tuple[str, int], Refusal] | None = None
) -> AppState:
    """The parts of an application; no model is loaded yet (`AppState.group.start` does that).

    Args:
        settings: with the numbers of processes and threads settled.
        link: to the other processes on the same socket.
        fatal: versions that ended a process that loaded them: by model and version, why.
    """
    instruments, lifecycle = Metrics(), Lifecycle()

    async def trial(bundle: Bundle) -> None:
        await try_to_load(bundle, settings)

    others = IdleCores(link.memory.runs, link.number)
    registry = Registry(settings, instruments, trial=trial, loading=link.loading, fatal=fatal, others=others)
    shares = memory_budget.shares(settings.image_memory, link.memory.image_memory, link.number, instruments)
    decoder = Decoder(
        instruments,
        shares["small_decodes"],
        shares["large_decodes"],
        threads=max(1, cores() // settings.workers),
        max_pixels=settings.max_pixels,
        max_seconds=settings.max_decode_seconds,
    )
    lifecycle.is_overloaded = lambda: decoder.is_saturated
    keeper = _feedback(settings.feedback, settings, instruments, link) if settings.feedback else None
    group = WorkerGroup(link, lifecycle, registry, instruments, keeper)
    explainer = Explainer(settings.explain_memory // 2**20)
    keys = ApiKeys(settings, link.memory.key_times)
    return AppState(settings, instruments, lifecycle, registry, decoder, shares, group, explainer, keeper, keys)


def _feedback(root: str, settings: Settings, instruments: Metrics, link: WorkerLink) -> Feedback:
    async def forward(sample: Sample) -> bool:
        return await link.ask(0, Keep(sample)) is not None

    return Feedback(root, settings, instruments, link.size, None if link.is_leader else forward)


def create_app(state: AppState) -> FastAPI:
    """An application: every route, on these parts."""
    settings = state.settings

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(_watch(state))]
        if settings.api_keys_file:
            tasks.append(asyncio.create_task(auth.follow(state.keys, state.metrics)))
        if state.feedback:
            state.feedback.start()
        try:
            yield
        finally:
            state.lifecycle.draining = True
            for task in tasks:
                task.cancel()
            state.group.close()
            if state.feedback:
                state.feedback.close()
            state.explainer.close()
            state.decoder.close()
            state.registry.close()

    app = FastAPI(
        title="Kernelscope",
        description=DESCRIPTION,
        version=VERSION,
        lifespan=life,
        telemetry=tracing.telemetry(),
        docs_url=None,  # FastAPI's own pages load their scripts from another host: `page` has one that does not
        redoc_url=None,
        servers=[{"url": settings.prefix}] if settings.prefix else None,
        redirect_slashes=not settings.prefix,  # where to, only the proxy could tell
    )
    app.state.kernelscope = state
    app.router.routes.append(FastRoute("/predict", predict.predict))
    for routes in (predict, feedback, health, metrics, models, explain, open_inference, tensorflow_serving, page):
        app.include_router(routes.router)
    errors.install(app)
    if state.keys.is_required:
        app.add_middleware(Authentication, keys=state.keys, metrics=state.metrics)
    if settings.cors_origins:
        origins = [origin.strip() for origin in settings.cors_origins.split(",")]
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])
    app.add_middleware(AccessLog, metrics=state.metrics, log_requests=settings.log_requests)
    return app


async def _watch(state: AppState) -> None:
    """Look for new versions now and then, as long as the application lives; on SIGHUP, at once."""
    look = asyncio.Event()
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGHUP"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, look.set)
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(look.wait(), state.settings.watch or None)
        asked = look.is_set()
        look.clear()
        try:
            await state.group.watch(retry=asked)
        except (OSError, KernelscopeError) as error:  # the folder is gone, say: what is loaded goes on serving
            log.error("%s cannot be looked through: %s", state.settings.models, error)  # noqa: TRY400
        except Exception:  # a fault of ours must not end the looking: it is logged, and the next look may succeed
            log.exception("%s cannot be looked through", state.settings.models)
