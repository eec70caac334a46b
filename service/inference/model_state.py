"""What is known of models and their versions: what one process tells clients and its siblings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from service.inference.refusal import Refusal

VersionState = Literal["ready", "refused", "available"]
"""`ready`: it answers requests. `refused`: it cannot be served. `available`: it is there, and not asked for."""


@dataclass(frozen=True)
class VersionStatus:
    """A version in the repository, or loaded: whether it answers requests, and if it was refused, why."""

    version: int
    state: VersionState
    reason: str = ""


@dataclass(frozen=True)
class Canary:
    """A version that answers a part of the requests that name none.

    Attributes:
        version: its number.
        weight: the part, from 0 to 1.
    """

    version: int
    weight: float


@dataclass(frozen=True)
class ModelState:
    """What one process knows of a model that another one has to do the same with.

    Attributes:
        pinned: the version that was asked for; None for the settings' policy.
        unloaded: whether it was asked to serve no more.
        canary: beside the version that is pinned; None where there is none.
        digests: of each version that answers requests, the SHA-256 of what was loaded.
        refused: versions that cannot be served.
    """

    pinned: int | None = None
    unloaded: bool = False
    digests: Mapping[int, str] = field(default_factory=dict)
    refused: Mapping[int, Refusal] = field(default_factory=dict)
    canary: Canary | None = None


@dataclass(frozen=True)
class GroupState:
    """What the worker group serves: the name of the default model, and the state of each model."""

    default: str
    models: Mapping[str, ModelState]
