"""One model's versions in this process: which are loaded, which were refused, and which of them answers."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from service.inference.loaded_model import LoadedModel
from service.inference.model_state import Canary
from service.inference.refusal import Refusal


@dataclass
class ModelVersions:
    """One model's versions.

    Attributes:
        pinned: the version that was asked for; None for the settings' policy.
        unloaded: whether it was asked to serve no more.
        canary: a version that answers a part of the requests, beside the pinned one.
        loaded: versions that answer, by number.
        refused: versions that cannot be served, by number.
        lost: loaded here, while another process cannot load them any more.
    """

    pinned: int | None = None
    unloaded: bool = False
    canary: Canary | None = None
    loaded: dict[int, LoadedModel] = field(default_factory=dict)
    refused: dict[int, Refusal] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)

    @property
    def base(self) -> LoadedModel:
        """What answers requests that name no version, but for the canary's part; one version at least is loaded."""
        stable = [number for number in self.loaded if self.canary is None or number != self.canary.version]
        return self.loaded[max(stable or self.loaded)]

    def choose(self) -> LoadedModel:
        """What answers one request that names no version: the canary by its weight, else the base."""
        canary = self.loaded.get(self.canary.version) if self.canary else None
        return canary if canary and random.random() < self.share(canary) else self.base  # noqa: S311

    def share(self, loaded: LoadedModel) -> float:
        """The part of the requests that name no version which a loaded version answers, from 0 to 1."""
        base = self.base
        weight = self.canary.weight if self.canary and self.canary.version in self.loaded else 0.0
        if self.canary and loaded.version == self.canary.version:
            return 1.0 if loaded is base else weight
        return 1.0 - weight if loaded is base else 0.0
