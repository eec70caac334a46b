"""What is served, and what in the repository is not, and why."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request

from contract.errors import BundleError, BundleNotFound
from service.http import auth
from service.http.errors import ApiError
from service.inference.loaded_model import LoadedModel
from service.inference.model_state import Canary
from service.inference.registry import Registry
from service.routes.parameters import Version
from service.schemas import (
    ErrorReply,
    IgnoredPath,
    ModelDetail,
    ModelList,
    ModelSummary,
    ModelTraffic,
    RefusedVersion,
    refused,
)
from service.state import app_state

router = APIRouter()


@router.get("/models", tags=["models"], responses=refused(ErrorReply, 401))
async def list_models(request: Request) -> ModelList:
    """Every version that is served, and every one that was refused."""
    registry = app_state(request).registry
    await registry.refresh()
    return ModelList(
        models=[_summary(loaded, registry) for loaded in registry.all()],
        refused=[
            RefusedVersion(name=name, version=status.version, reason=status.reason)
            for name, status in registry.refused()
        ],
        ignored=[IgnoredPath(path=path, reason=reason) for path, reason in registry.ignored().items()],
    )


@router.get("/models/{name}", tags=["models"], responses=refused(ErrorReply, 401, 404, 422))
async def model_detail(request: Request, name: str, version: Version = None) -> ModelDetail:
    """A version of a model that is served, and its card."""
    state = app_state(request)
    loaded = state.registry.get(name, version)
    return ModelDetail(**_summary(loaded, state.registry).model_dump(), card=loaded.card.to_dict())


@router.put("/models/{name}/canary", tags=["models"], responses=refused(ErrorReply, 401, 403, 404, 409, 422, 503))
async def start_canary(
    request: Request,
    name: str,
    version: Annotated[int, Query(ge=1, description="the version to try")],
    weight: Annotated[
        float, Query(ge=0, le=1, allow_inf_nan=False, description="the part of the requests that it answers")
    ],
    base: Annotated[
        int | None, Query(ge=1, description="what answers the others; what answers now if left out")
    ] = None,
) -> ModelTraffic:
    """Let a version answer a part of the requests that name none; again, with another weight, for another part.

    Takes the admin key.
    """
    state = app_state(request)
    auth.require_admin(request, state.keys)
    try:
        await state.group.start_canary(name, Canary(version, weight), base)
    except BundleNotFound:
        raise
    except BundleError as error:
        raise ApiError(HTTPStatus.CONFLICT, "not_served", str(error)) from None
    return _traffic(state.registry, name)


@router.delete("/models/{name}/canary", tags=["models"], responses=refused(ErrorReply, 401, 403, 404, 409))
async def roll_back(request: Request, name: str) -> ModelTraffic:
    """Roll back: the version that the canary stood beside answers everything again, at once. Takes the admin key."""
    state = app_state(request)
    auth.require_admin(request, state.keys)
    try:
        await state.group.roll_back(name)
    except BundleNotFound:
        raise
    except BundleError as error:
        raise ApiError(HTTPStatus.CONFLICT, "not_served", str(error)) from None
    return _traffic(state.registry, name)


def _traffic(registry: Registry, name: str) -> ModelTraffic:
    shares = {str(model.version): registry.share(model) for model in registry.all() if model.name == name}
    return ModelTraffic(name=name, shares={version: share for version, share in shares.items() if share})


def _summary(loaded: LoadedModel, registry: Registry) -> ModelSummary:
    card = loaded.card
    return ModelSummary(
        name=loaded.name,
        version=loaded.version,
        default=loaded.name == registry.default,
        labels=list(card.labels),
        height=card.height,
        width=card.width,
        accuracy=card.accuracy.accuracy,
        share=registry.share(loaded),
    )
