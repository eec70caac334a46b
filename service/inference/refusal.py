"""Why a version of a model is not served."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

from contract.repository import Fingerprint


@dataclass(frozen=True)
class Refusal:
    """Why a version was refused, and what its files were then: once they change, it is tried again."""

    reason: str
    fingerprint: Fingerprint | None = None


def how_it_ended(model: Path | str, code: int) -> str:
    """A sentence about a process that loaded a model and ended with an exit code, negative for a signal."""
    if code >= 0:
        return f"{model} ended the process that loaded it, with {code}"
    cause = "; there may be too little memory for it" if -code == signal.SIGKILL else ""
    return f"{model} ended the process that loaded it, by {signal.Signals(-code).name}{cause}"
