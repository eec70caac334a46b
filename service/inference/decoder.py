"""Encoded images -> a model's input: small ones at once, large ones on threads of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, Protocol

from PIL import Image

from contract import preprocessing
from contract.card import Card
from contract.errors import ImageError
from contract.preprocessing import Pixels
from service.inference import jpeg
from service.observability import tracing
from service.observability.metrics import Metrics

AT_ONCE_BYTES: Final = 4096
AT_ONCE_PIXELS: Final = 64 * 64
"""An image of up to so many bytes and pixels is decoded on the event loop: that takes less than handing it to a
thread. Both count: forty bytes can claim to be fifty megapixels."""

_RUN: Final = 32
"""Small images that a thread decodes in one go."""


class Target(Protocol):
    """What images are decoded for: a version that is served."""

    @property
    def card(self) -> Card:
        """Its card, which says the size."""

    @property
    def metric_labels(self) -> tuple[str, str]:
        """Its name and version, as the metrics label it."""


class Decoder:
    """Decodes for all models.

    Args:
        metrics: told of each image.
        threads: how many large images are decoded at once; Pillow releases the GIL.
        max_pixels: width times height of an image.
    """

    def __init__(self, metrics: Metrics, *, threads: int, max_pixels: int) -> None:
        self._metrics, self._max_pixels = metrics, max_pixels
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    async def one(self, data: bytes, of: Target) -> Pixels:
        """One image, uint8 (1, H, W, 3). Raises `ImageError`."""
        start = time.perf_counter()
        pixels = await self._one(data, of)
        tracing.record("decode", start, time.perf_counter(), bytes=len(data))
        return pixels

    async def _one(self, data: bytes, of: Target) -> Pixels:
        if len(data) <= AT_ONCE_BYTES:
            pixels = self._plain(data, of)
            if pixels is not None:
                return pixels[None]
            image = self._open(data)
            if image.width * image.height <= AT_ONCE_PIXELS:
                return self._finish(image, of)[None]
        loop = asyncio.get_running_loop()
        return (await loop.run_in_executor(self._threads, self._decode, data, of))[None]

    async def several(self, images: Sequence[bytes], of: Target) -> list[Pixels | ImageError]:
        """Each image, uint8 (H, W, 3), or why it cannot be read; in order."""
        start, loop = time.perf_counter(), asyncio.get_running_loop()
        # a thread's job is one large image or a run of small ones: handing over costs as much as decoding a few
        jobs: list[list[bytes]] = []
        for data in images:
            if jobs and len(data) <= AT_ONCE_BYTES and len(jobs[-1]) < _RUN and len(jobs[-1][-1]) <= AT_ONCE_BYTES:
                jobs[-1].append(data)
            else:
                jobs.append([data])
        done = await asyncio.gather(*(loop.run_in_executor(self._threads, self._each, job, of) for job in jobs))
        tracing.record("decode", start, time.perf_counter(), images=len(images))
        return [result for results in done for result in results]

    def close(self) -> None:
        """End the threads, after the images that they are at."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _each(self, images: list[bytes], of: Target) -> list[Pixels | ImageError]:
        found: list[Pixels | ImageError] = []
        for data in images:
            try:
                found.append(self._decode(data, of))
            except ImageError as error:
                found.append(error)
        return found

    def _decode(self, data: bytes, of: Target) -> Pixels:
        pixels = self._plain(data, of) if len(data) <= AT_ONCE_BYTES else None
        return self._finish(self._open(data), of) if pixels is None else pixels

    def _plain(self, data: bytes, of: Target) -> Pixels | None:
        start = time.perf_counter()
        pixels = jpeg.plain(data, of.card.height, of.card.width)
        if pixels is not None:
            self._metrics.decode_seconds.labels(*of.metric_labels).observe(time.perf_counter() - start)
        return pixels

    def _open(self, data: bytes) -> Image.Image:
        with self._counting_refusals():
            return preprocessing.open_header(data, max_pixels=self._max_pixels)

    def _finish(self, image: Image.Image, of: Target) -> Pixels:
        with self._counting_refusals(), self._metrics.decode_seconds.labels(*of.metric_labels).time():
            return preprocessing.finish(image, of.card.height, of.card.width, of.card.resize_mode)

    @contextmanager
    def _counting_refusals(self) -> Iterator[None]:
        try:
            yield
        except ImageError as error:
            self._metrics.refused_images.labels(error.code).inc()
            raise
