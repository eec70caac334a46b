"""The application: wiring, start, drain."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from contract.cpu import cores
from contract.errors import KernelscopeError
from contract.version import VERSION
from service.http import errors
from service.http.access_log import Access
from service.http.auth import Keys
from service.http.fast_route import Lane
from service.inference.decoder import Decoder
from service.inference.registry import Registry
from service.observability import tracing
from service.observability.metrics import Metrics
from service.routes import health, open_inference, page, predict, tensorflow_serving
from service.settings import Settings
from service.state import State
from service.worker_group import Crew

log = logging.getLogger("kernelscope")

DESCRIPTION = (
    "Says what is in an image. Every refusal is `{'error': {'code', 'message'}}` and says what would be right."
)


def create_app(settings: Settings, crew: Crew) -> FastAPI:
    """An application for one repository of models, which are loaded and warmed before this returns.

    Args:
        settings: with the numbers of processes and threads settled.
        crew: the other processes on the same socket.

    Raises:
        BundleError: there is no model, or one that cannot be served.
        UsageError: the default model is not there.
    """
    metrics = Metrics()
    state = State(
        settings,
        metrics,
        Registry(settings, metrics),
        Decoder(metrics, threads=max(1, cores() // settings.workers), max_pixels=settings.max_pixels),
        crew,
    )

    state.registry.start()

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        wishes = next(filter(None, await crew.ask({"ask": "wishes"})), None)
        if wishes:  # this process takes the place of one that died: the others know what was asked for since
            await state.registry.follow(wishes)
        await crew.listen(state.answer)
        state.ready = True
        watch = asyncio.create_task(_watch(state))
        try:
            yield
        finally:
            state.draining = True
            watch.cancel()
            crew.close()
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
    )
    app.state.kernelscope = state
    app.router.routes.append(Lane("/predict", predict.predict))
    app.include_router(predict.router)
    app.include_router(health.router)
    app.include_router(open_inference.router)
    app.include_router(tensorflow_serving.router)
    app.include_router(page.router)
    errors.install(app)
    if settings.api_keys:
        app.add_middleware(Keys, settings=settings)
    if settings.cors_origins:
        origins = [origin.strip() for origin in settings.cors_origins.split(",")]
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])
    app.add_middleware(Access, metrics=metrics, log_requests=settings.log_requests)
    return app


async def _watch(state: State) -> None:
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
            await state.registry.sync(again=asked)
        except (OSError, KernelscopeError) as error:  # the folder is gone, say: what is loaded goes on serving
            log.error("%s cannot be looked through: %s", state.settings.models, error)  # noqa: TRY400
        except Exception:  # a fault of ours must not end the looking: it is logged, and the next look may succeed
            log.exception("%s cannot be looked through", state.settings.models)
