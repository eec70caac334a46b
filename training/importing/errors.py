"""What an ONNX file can be refused for."""

from __future__ import annotations

from contract.errors import KernelscopeError


class CannotImport(KernelscopeError):
    """A model, or what was said of it, that does not fit a bundle; nothing is published."""
