"""What is served, and what in the repository is not, and why."""

from __future__ import annotations

from fastapi import APIRouter, Request

from service.inference.loaded_model import LoadedModel
from service.routes.parameters import Version
from service.schemas import ErrorReply, IgnoredPath, ModelDetail, ModelList, ModelSummary, RefusedVersion, refused
from service.state import app_state

router = APIRouter()


@router.get("/models", tags=["models"], responses=refused(ErrorReply, 401))
async def list_models(request: Request) -> ModelList:
    """Every version that is served, and every one that was refused."""
    registry = app_state(request).registry
    await registry.refresh()
    return ModelList(
        models=[_summary(loaded, registry.default) for loaded in registry.all()],
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
    return ModelDetail(**_summary(loaded, state.registry.default).model_dump(), card=loaded.card.to_dict())


def _summary(loaded: LoadedModel, default: str) -> ModelSummary:
    card = loaded.card
    return ModelSummary(
        name=loaded.name,
        version=loaded.version,
        default=loaded.name == default,
        labels=list(card.labels),
        height=card.height,
        width=card.width,
        accuracy=card.accuracy.accuracy,
    )
