"""What the routes of one application share."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from service.explanation.explainer import Explainer
from service.feedback.keeper import Feedback
from service.http.auth import ApiKeys
from service.http.context import context_of
from service.inference.decoder import Decoder
from service.inference.loaded_model import LoadedModel
from service.inference.memory_budget import Shares
from service.inference.registry import Registry
from service.lifecycle import Lifecycle
from service.observability.metrics import Metrics
from service.settings import Settings
from service.worker_group import WorkerGroup


@dataclass(frozen=True)
class AppState:
    """An application's parts."""

    settings: Settings
    metrics: Metrics
    lifecycle: Lifecycle
    registry: Registry
    decoder: Decoder
    image_memory: Shares
    group: WorkerGroup
    explainer: Explainer
    feedback: Feedback | None
    keys: ApiKeys


def app_state(request: Request) -> AppState:
    """The state of the application that a request came to."""
    state: AppState = request.app.state.kernelscope
    return state


def answering_model(request: Request, name: str | None, version: int | None) -> LoadedModel:
    """As `find_model`, for a request that a canary may answer."""
    loaded = app_state(request).registry.choose(name, version)
    context_of(request.scope).metric_labels = loaded.metric_labels
    return loaded


def find_model(request: Request, name: str | None, version: int | None) -> LoadedModel:
    """What answers for a model, as `Registry.get` finds it; the request is counted as that model's from here on."""
    loaded = app_state(request).registry.get(name, version)
    context_of(request.scope).metric_labels = loaded.metric_labels
    return loaded
