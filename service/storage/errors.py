"""What an object store can fail with."""

from __future__ import annotations

from contract.errors import KernelscopeError


class StoreError(KernelscopeError):
    """A store that cannot be used, reached, listed, read or written; says nothing about the models in it."""
