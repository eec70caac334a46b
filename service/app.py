"""The application: wiring, start, drain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from service import refusals
from service.access import Access
from service.decoder import Decoder
from service.engine import cores
from service.metrics import Metrics
from service.registry import Registry
from service.routes import health, predict
from service.settings import Settings
from service.state import State

DESCRIPTION = (
    "Says what is in a picture. Every refusal is `{'error': {'code', 'message'}}` and says what would be right."
)


def create_app(settings: Settings) -> FastAPI:
    """An application for one repository of models, which are loaded and warmed before this returns.

    Raises:
        BundleError: there is no model, or one that cannot be served.
        UsageError: the default model is not there.
    """
    metrics = Metrics()
    state = State(
        settings,
        metrics,
        Registry(settings, metrics),
        Decoder(metrics, threads=cores(), max_pixels=settings.max_pixels),
    )

    state.registry.load()

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        state.ready = True
        try:
            yield
        finally:
            state.draining = True
            state.decoder.close()
            state.registry.close()

    app = FastAPI(title="Kernelscope", description=DESCRIPTION, version="0.1.0", lifespan=life)
    app.state.kernelscope = state
    app.include_router(predict.router)
    app.include_router(health.router)
    refusals.install(app)
    app.add_middleware(Access, metrics=metrics, log_requests=settings.log_requests)
    return app
