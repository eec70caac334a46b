"""What a job of classification can be refused for, or end with."""

from __future__ import annotations

from contract.errors import KernelscopeError


class JobError(KernelscopeError):
    """A job that cannot begin, cannot go on, or goes with other images, another model or other options than before."""
