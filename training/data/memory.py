"""How many images are kept in memory."""

from __future__ import annotations

from contract import memory


def limit() -> int:
    """Return how many bytes of images are kept in memory, a quarter of what is free. Larger datasets stay on disk.

    Images are in memory twice while they are read and while they are split; the rest is for the training.
    """
    return memory.available() // 4
