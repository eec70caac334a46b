"""Encoded images -> a model's input, each by the cheapest way that is safe for it.

| image | way | because |
|---|---|---|
| a few thousand bytes and pixels | on the event loop | handing it over would take longer than decoding it |
| proven to be cheap (`cheap`) | on a thread | its bytes bound what it takes |
| all others | in a process of its own (`decode_server`) | the kernel bounds what it takes |

Decoding has admission of its own. Each way has places of its own, and so have small and large images in processes, so
that a photograph never waits for what is large; within one, whoever came first goes first. A request of many images
takes no more places than there are.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Protocol, TypeVar

from PIL import Image
from prometheus_client import Histogram

from contract import decode_memory, preprocessing
from contract.card import Card
from contract.errors import ImageError, ImageTooLarge
from contract.preprocessing import Pixels
from service.inference import cheap, jpeg
from service.inference.decode_pool import SMALL_MEMORY, DecodePool, DecoderLost, OutOfMemory, OutOfTime, TooSlow
from service.inference.decode_server import Job
from service.inference.memory_budget import Share
from service.observability import tracing
from service.observability.metrics import Metrics

AT_ONCE_BYTES: Final = 4096
AT_ONCE_PIXELS: Final = 64 * 64
"""An image of up to so many bytes and pixels is decoded on the event loop: that takes less than handing it to a
thread. Both count: forty bytes can claim to be fifty megapixels."""


_SIMPLE: Final = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
"""Formats of which a small image is small in every respect. A TIFF's tiles may be larger than the image."""
_RUN: Final = 32
"""Small images that a thread decodes in one go."""
_SATURATED_SECONDS: Final = 5.0
"""An image that has waited this long for its decoding to begin shows that there is more to decode than can be."""
_LONGEST_SECONDS: Final = 3600.0
_ENDED: Final = {
    TooSlow: "processor_time",
    OutOfMemory: "memory",
    OutOfTime: "deadline",
    DecoderLost: "killed",
    asyncio.CancelledError: "no_longer_awaited",
}
"""What ends a decode before its time, and what the metrics call that."""
_ISOLATED: Final = sys.platform == "linux"
"""Whether there are processes to decode in. Elsewhere threads decode all images, without limits."""

_Value = TypeVar("_Value")


class Target(Protocol):
    """What images are decoded for: a version that is served."""

    @property
    def card(self) -> Card:
        """Its card, which says the size."""

    @property
    def metric_labels(self) -> tuple[str, str]:
        """Its name and version, as the metrics label it."""


class Caller(Protocol):
    """Who waits for an image.

    Attributes:
        deadline: until when, by `time.perf_counter`.
        pending: futures that are cancelled when nobody waits any more.
    """

    deadline: float
    pending: set[asyncio.Future[Any]]


class ClientLeft(Exception):
    """Whoever waited for an image has left."""


class Decoder:
    """Decodes for all models.

    Args:
        metrics: told of each image.
        small, large: the memory that small and large images share, over all processes.
        threads: how many images are decoded at once in each way; Pillow releases the GIL.
        max_pixels: width times height of an image.
        max_seconds: of a processor's time that one image may take.
    """

    def __init__(
        self, metrics: Metrics, small: Share, large: Share, *, threads: int, max_pixels: int, max_seconds: float
    ) -> None:
        self._metrics, self._max_pixels, self._max_seconds = metrics, max_pixels, max_seconds
        self._places, self._small, self._large = threads, small, large
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._pool = DecodePool()
        # a thread has its next image at hand: else it waits for a turn of the event loop, where a model may be running
        self._thread_places = asyncio.Semaphore(2 * threads)
        self._small_places, self._large_places = asyncio.Semaphore(threads), asyncio.Semaphore(threads)
        self._timers: dict[tuple[str, str], Histogram] = {}
        self._waiting: dict[object, float] = {}  # since when each waits for a place; in order

    @property
    def is_saturated(self) -> bool:
        """Whether images wait so long for a place that a new one would hardly be answered in time."""
        since = next(iter(self._waiting.values()), None)
        return since is not None and time.perf_counter() - since > _SATURATED_SECONDS

    async def one(self, data: bytes, target: Target, caller: Caller) -> Pixels:
        """One image, uint8 (1, H, W, 3).

        Raises:
            ImageError: it cannot be decoded, or not within the limits.
            OutOfTime: the caller's deadline has passed.
            DecoderLost: the process that decoded it was killed.
        """
        start = time.perf_counter()
        pixels = self.at_once(data, target)
        if pixels is None:
            (pixels,) = await _together([self.elsewhere(data, target, caller)], caller)
        tracing.record("decode", start, time.perf_counter(), bytes=len(data))
        return pixels[None]

    async def several(self, images: Sequence[bytes], target: Target, caller: Caller) -> list[Pixels | ImageError]:
        """Each image, uint8 (H, W, 3), or why it cannot be read; in order. Raises the others of what `one` raises."""
        start = time.perf_counter()
        results: dict[int, Pixels | ImageError] = {}
        jobs = iter(_runs(images))

        async def work() -> None:
            for job in jobs:
                run = [images[place] for place in job]
                at_once = await self._on_thread(run, target, caller) if len(run[0]) <= AT_ONCE_BYTES else [None]
                for place, result in zip(job, at_once, strict=True):
                    results[place] = await self._or_error(images[place], target, caller) if result is None else result

        await _together([work() for _ in range(2 * self._places)], caller)
        tracing.record("decode", start, time.perf_counter(), images=len(images))
        return [results[place] for place in range(len(images))]

    def close(self) -> None:
        """End the threads, after the images that they are at, and the processes at once."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._pool.close()

    async def elsewhere(self, data: bytes, target: Target, caller: Caller) -> Pixels:
        """An image that is not decoded at once, uint8 (H, W, 3): on a thread or in a process.

        Whoever waits no more cancels the task that this is in. Raises `ImageError` and `DecoderLost`, as `one` does.
        """
        if not _ISOLATED or cheap.is_cheap(data, target.card.height, target.card.width):
            async with self._place(self._thread_places):
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._whole, data, target)
        with self._counting_refusals():
            memory = min(SMALL_MEMORY, self._small.size)
            async with self._place(self._small_places), self._small.hold(memory):
                result = await self._in_process(data, target, caller, memory)
            if isinstance(result, int):
                if result > self._large.size:
                    raise ImageTooLarge(
                        f"decoding the image takes {result / 1e6:,.0f} MB, more than {self._large.size / 1e6:,.0f} MB "
                        "in all: send a smaller one, or raise KERNELSCOPE_IMAGE_MEMORY"
                    )
                async with self._large_places, self._large.hold(result):
                    result = await self._in_process(data, target, caller, result)
        if isinstance(result, int):
            raise DecoderLost("the image was judged twice, and not alike")
        return result

    async def _or_error(self, data: bytes, target: Target, caller: Caller) -> Pixels | ImageError:
        try:
            return await self.elsewhere(data, target, caller)
        except ImageError as error:
            return error

    # --- on the event loop

    def at_once(self, data: bytes, target: Target) -> Pixels | None:
        """An image that costs next to nothing, uint8 (H, W, 3); None for any other. Raises `ImageError`."""
        if len(data) > AT_ONCE_BYTES:
            return None
        pixels = self._plain(data, target)
        if pixels is not None or decode_memory.claimed(data) > SMALL_MEMORY:
            return pixels
        image = self._open(data)
        is_small = image.format in _SIMPLE and image.width * image.height <= AT_ONCE_PIXELS
        return self._finish(image, target) if is_small else None

    # --- on threads

    async def _on_thread(self, run: list[bytes], target: Target, caller: Caller) -> list[Pixels | ImageError | None]:
        async with self._place(self._thread_places):
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, run, target, caller)

    def _run(self, images: list[bytes], target: Target, caller: Caller) -> list[Pixels | ImageError | None]:
        """Small images one after the other, as long as somebody waits for them; None for each that is not small."""
        results: list[Pixels | ImageError | None] = []
        for data in images:
            if time.perf_counter() > caller.deadline:
                raise OutOfTime
            try:
                results.append(self.at_once(data, target))
            except ImageError as error:
                results.append(error)
        return results

    def _whole(self, data: bytes, target: Target) -> Pixels:
        return self._finish(self._open(data), target)

    # --- in processes

    async def _in_process(self, data: bytes, target: Target, caller: Caller, memory: int) -> Pixels | int:
        """As `DecodePool.decode`."""
        card, start = target.card, time.perf_counter()
        job = Job(
            data, card.height, card.width, card.resize_mode, self._max_pixels, memory,
            min(caller.deadline - start, _LONGEST_SECONDS), self._max_seconds,
        )  # fmt: skip
        try:
            result = await self._pool.decode(job)
        except BaseException as error:
            for kind, reason in _ENDED.items():
                if isinstance(error, kind):
                    self._metrics.ended_decodes.labels(reason).inc()
            raise
        if not isinstance(result, int):
            self._timer(target).observe(time.perf_counter() - start)
        return result

    @asynccontextmanager
    async def _place(self, places: asyncio.Semaphore) -> AsyncIterator[None]:
        """One of the places for small images, as soon as one is free."""
        token = object()
        self._waiting[token] = time.perf_counter()
        self._metrics.decode_queue_depth.set(len(self._waiting))
        try:
            await places.acquire()
        finally:
            del self._waiting[token]
            self._metrics.decode_queue_depth.set(len(self._waiting))
        try:
            yield
        finally:
            places.release()

    # --- the steps

    def _timer(self, target: Target) -> Histogram:
        """What is told how long decoding for a version takes; looking it up takes a while."""
        labels = target.metric_labels
        if labels not in self._timers:
            self._timers[labels] = self._metrics.decode_seconds.labels(*labels)
        return self._timers[labels]

    def _plain(self, data: bytes, target: Target) -> Pixels | None:
        start = time.perf_counter()
        pixels = jpeg.plain(data, target.card.height, target.card.width)
        if pixels is not None:
            self._timer(target).observe(time.perf_counter() - start)
        return pixels

    def _open(self, data: bytes) -> Image.Image:
        with self._counting_refusals():
            return preprocessing.open_header(data, max_pixels=self._max_pixels)

    def _finish(self, image: Image.Image, target: Target) -> Pixels:
        with self._counting_refusals(), self._timer(target).time():
            return preprocessing.finish(image, target.card.height, target.card.width, target.card.resize_mode)

    @contextmanager
    def _counting_refusals(self) -> Iterator[None]:
        try:
            yield
        except ImageError as error:
            self._metrics.refused_images.labels(error.code).inc()
            raise


def _runs(images: Sequence[bytes]) -> list[list[int]]:
    """The places of images, as jobs: each one large image, or a run of small ones."""
    jobs: list[list[int]] = []
    for place, data in enumerate(images):
        is_small = len(data) <= AT_ONCE_BYTES
        if jobs and is_small and len(jobs[-1]) < _RUN and len(images[jobs[-1][-1]]) <= AT_ONCE_BYTES:
            jobs[-1].append(place)
        else:
            jobs.append([place])
    return jobs


async def _together(work: Iterable[Coroutine[Any, Any, _Value]], caller: Caller) -> list[_Value]:
    """The results of several coroutines, all of which end when one fails or when nobody waits any more.

    Raises what they raise, and `ClientLeft`.
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
    caller.pending.update(tasks)
    try:
        return list(await asyncio.gather(*tasks))
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if current is not None and current.cancelling():  # by the deadline, or at the end of the service
            raise
        raise ClientLeft from None
    finally:
        for task in tasks:
            task.cancel()
        caller.pending.difference_update(tasks)
