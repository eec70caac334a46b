"""Encoded pictures -> a model's input: small ones at once, large ones on threads of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from PIL import Image

from contract import bundle, images
from contract.errors import PictureError
from contract.images import Pixels
from service.metrics import Metrics

AT_ONCE_BYTES: Final = 4096
AT_ONCE_PIXELS: Final = 64 * 64
"""A picture of up to so many bytes and pixels is decoded on the event loop: that takes less than handing it to a
thread. Both count: forty bytes can claim to be fifty megapixels."""


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
            picture = self._open(data)
            if picture.width * picture.height <= AT_ONCE_PIXELS:
                return self._finish(picture, card)[None]
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
        return self._finish(self._open(data), card)

    def _open(self, data: bytes) -> Image.Image:
        with self._counting_refusals():
            return images.open_header(data, max_pixels=self._max_pixels)

    def _finish(self, picture: Image.Image, card: bundle.Card) -> Pixels:
        with self._counting_refusals(), self._metrics.decode_seconds.time():
            return images.finish(picture, card.height, card.width, card.fit)

    @contextmanager
    def _counting_refusals(self) -> Iterator[None]:
        try:
            yield
        except PictureError as error:
            self._metrics.refused_pictures.labels(error.code).inc()
            raise
