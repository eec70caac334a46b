"""Health, metrics, and what is served."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from contract.version import VERSION
from service import state
from service.inference.loaded_model import Served
from service.schemas import ErrorReply, Health, ModelDetail, ModelList, ModelSummary, Probe, RefusedVersion, refused

router = APIRouter()

Version = Annotated[int | None, Query(ge=1, description="a version; the newest if left out")]


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live", tags=["health"])
async def live() -> Probe:
    """200 as long as the process answers: restart it where this fails."""
    return Probe(status="live")


@router.head("/health/ready", include_in_schema=False)
@router.get("/health/ready", tags=["health"], response_model=Probe, responses=refused(Probe, 503))
async def ready(request: Request) -> JSONResponse:
    """200 once every process has run every model, 503 before and from SIGTERM on: send nothing where this fails."""
    status, _ = await state.of(request).health()
    return JSONResponse({"status": status}, 200 if status == "ready" else 503)


@router.head("/health", include_in_schema=False)
@router.get("/health", tags=["health"])
async def health(request: Request) -> Health:
    """A summary for people."""
    here = state.of(request)
    served = here.registry.all()
    status, waiting = await here.health()
    return Health(
        status=status,
        version=VERSION,
        uptime_seconds=round(time.monotonic() - here.started, 1),
        models={
            name: [one.version for one in served if one.name == name]
            for name in dict.fromkeys(one.name for one in served)
        },
        waiting_images=waiting,
        processes=here.crew.size,
    )


@router.get(
    "/metrics",
    tags=["health"],
    response_class=Response,
    responses={200: {"content": {"text/plain": {}, "application/openmetrics-text": {}}}},
)
async def metrics(request: Request) -> Response:
    """Prometheus text, or OpenMetrics where `Accept` asks for it."""
    page, content_type = await state.of(request).page(request.headers.get("accept", ""))
    return Response(page, headers={"content-type": content_type})


@router.get("/models", tags=["models"], responses=refused(ErrorReply, 401))
async def models(request: Request) -> ModelList:
    """Every version that is served, and every one that was refused."""
    here = state.of(request)
    registry = here.registry
    return ModelList(
        models=[_summary(one, registry.default) for one in registry.all()],
        refused=[
            RefusedVersion(name=name, version=one.version, reason=one.reason)
            for name in registry.names()
            for one in registry.versions(name)
            if one.status == "refused"
        ],
    )


@router.get("/models/{name}", tags=["models"], responses=refused(ErrorReply, 401, 404, 422))
async def model(request: Request, name: str, version: Version = None) -> ModelDetail:
    """A version of a model that is served, and its card."""
    here = state.of(request)
    one = here.registry.get(name, version)
    return ModelDetail(**_summary(one, here.registry.default).model_dump(), card=one.card.to_dict())


def _summary(one: Served, default: str) -> ModelSummary:
    card = one.card
    return ModelSummary(
        name=one.name,
        version=one.version,
        default=one.name == default,
        labels=list(card.labels),
        height=card.height,
        width=card.width,
        accuracy=card.accuracy.accuracy,
    )
