"""Encoded pictures -> a model's input: small ones at once, large ones on threads of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from contract import bundle, images
from contract.errors import PictureError
from contract.images import Pixels
from service.metrics import Metrics

AT_ONCE_BYTES: Final = 4096
"""An encoded picture up to this size is decoded on the event loop: that takes less than handing it to a thread."""


class Decoder:
    """Decodes for all models.

    Args:
        metrics: told of each picture.
        threads: how many large pictures are decoded at once; Pillow releases the GIL.
        max_pixels: width times height of a picture.
    """

    def __init__(self, metrics: Metrics, *, threads: int, max_pixels: int) -> None:
        self._metrics, self._max_pixels = metrics, max_pixels
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    async def one(self, data: bytes, card: bundle.Card) -> Pixels:
        """One picture, uint8 (1, H, W, 3). Raises `PictureError`."""
        if len(data) <= AT_ONCE_BYTES:
            return self._decode(data, card)[None]
        loop = asyncio.get_running_loop()
        return (await loop.run_in_executor(self._threads, self._decode, data, card))[None]

    async def several(self, pictures: Sequence[bytes], card: bundle.Card) -> list[Pixels | PictureError]:
        """Each picture, uint8 (H, W, 3), or why it cannot be read; in order."""
        loop = asyncio.get_running_loop()
        waiting = [loop.run_in_executor(self._threads, self._decode, data, card) for data in pictures]
        found: list[Pixels | PictureError] = []
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, PictureError):
                raise result
            found.append(result)
        return found

    def close(self) -> None:
        """End the threads, after the pictures that they are at."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _decode(self, data: bytes, card: bundle.Card) -> Pixels:
        start = time.perf_counter()
        try:
            return np.ascontiguousarray(
                images.read(data, card.height, card.width, card.fit, max_pixels=self._max_pixels)
            )
        except PictureError as error:
            self._metrics.refused_pictures.labels(error.code).inc()
            raise
        finally:
            self._metrics.decode_seconds.observe(time.perf_counter() - start)
