"""What the routes of one application share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from fastapi import Request

from service.decoder import Decoder
from service.metrics import Metrics
from service.registry import Registry
from service.settings import Settings


@dataclass
class State:
    """An application's parts, and where it is in its life: starting, ready, draining."""

    settings: Settings
    metrics: Metrics
    registry: Registry
    decoder: Decoder
    ready: bool = False
    draining: bool = False
    started: float = field(default_factory=time.monotonic)

    @property
    def status(self) -> Literal["starting", "ready", "draining"]:
        """Where it is, in a word."""
        if self.draining:
            return "draining"
        return "ready" if self.ready else "starting"


def of(request: Request) -> State:
    """The state of the application that a request came to."""
    state: State = request.app.state.kernelscope
    return state
