"""This version's number."""

from __future__ import annotations

from importlib import metadata
from typing import Final


def _installed() -> str:
    try:
        return metadata.version("kernelscope")
    except metadata.PackageNotFoundError:
        return "unknown"  # run from a checkout without installing


VERSION: Final = _installed()
