"""Where a process is in its life: starting, ready, draining."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["starting", "ready", "draining"]


@dataclass
class Lifecycle:
    """Where this process is in its life.

    Attributes:
        ready: every model has been loaded and has run.
        draining: SIGTERM came; what was accepted is answered.
        started: when the process began to serve, by `time.monotonic`.
    """

    ready: bool = False
    draining: bool = False
    started: float = field(default_factory=time.monotonic)

    @property
    def phase(self) -> Phase:
        """The present phase."""
        if self.draining:
            return "draining"
        return "ready" if self.ready else "starting"

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started
