"""Where a process is in its life: starting, ready, overloaded, draining."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["starting", "ready", "overloaded", "draining"]


@dataclass
class Lifecycle:
    """Where this process is in its life.

    Attributes:
        ready: every model has been loaded and has run.
        is_overloaded: whether so much waits that a new request would hardly be answered in time.
        draining: SIGTERM came; what was accepted is answered.
        started: when the process began to serve, by `time.monotonic`.
    """

    ready: bool = False
    draining: bool = False
    is_overloaded: Callable[[], bool] = lambda: False
    started: float = field(default_factory=time.monotonic)

    @property
    def phase(self) -> Phase:
        """The present phase."""
        if self.draining:
            return "draining"
        if not self.ready:
            return "starting"
        return "overloaded" if self.is_overloaded() else "ready"

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started
