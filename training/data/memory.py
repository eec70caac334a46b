"""How many images are kept in memory."""

from __future__ import annotations

from contract import memory


def limit() -> int:
    """How many bytes of images are kept in memory: a quarter of what is free. More than that streams from the cache.

    While they are read, and again while they are split, they are there twice; the rest is for the training.
    """
    return memory.available() // 4
