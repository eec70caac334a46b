"""A request's images through the model, within the request's time, for as long as its client listens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import Request

from contract.preprocessing import Pixels
from service import state
from service.http.connection import waiting_for
from service.http.errors import Refusal
from service.inference.batcher import Overloaded, Probabilities
from service.inference.loaded_model import Served
from service.observability import tracing


@asynccontextmanager
async def within(request: Request, timeout: float | None) -> AsyncIterator[None]:
    """Let a block take as long as the request may take, counted from its arrival: body, decoding, queue and run.

    Args:
        request: what came.
        timeout: seconds; the settings' where None.

    Raises:
        Refusal: 503, when the time is up; what waits for the model is taken from its queue.
    """
    here = state.of(request)
    seconds = here.settings.timeout if timeout is None else timeout
    until = request.scope["state"]["arrived"] + seconds
    request.scope["state"]["until"] = min(until, request.scope["state"].get("until", until))
    try:
        async with asyncio.timeout(until - time.perf_counter()):
            yield
    except TimeoutError:
        here.metrics.shed.labels("deadline").inc()
        raise Refusal(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "deadline_exceeded",
            f"there was no answer within {seconds:g} s: ask again when there is less to do, or allow more time",
        ) from None


async def infer(request: Request, served: Served, pixels: Pixels) -> Probabilities:
    """Probabilities, float32 (N, classes), of a request's images, uint8 (N, H, W, 3).

    Raises:
        Overloaded: too many wait, or for too long.
        Refusal: the client has left.
    """
    here = state.of(request)
    try:
        asked = served.batcher.submit(pixels, request.scope["state"]["until"] - time.perf_counter())
    except Overloaded:
        here.metrics.shed.labels("queue_full").inc()
        raise
    waiting = waiting_for(request.scope)
    waiting.add(asked.answer)
    try:
        probabilities = await asked
    except asyncio.CancelledError:
        if asked.answer.done() and not _cancelling():
            here.metrics.cancelled.inc()
            raise Refusal(499, "client_gone", "the client left before there was an answer") from None
        raise
    finally:
        waiting.discard(asked.answer)
    tracing.record("queue", asked.since, asked.started)
    tracing.record("inference", asked.started, asked.ended, images=len(pixels))
    return probabilities


def _cancelling() -> bool:
    """Whether it is this request's own task that is being cancelled, as by its deadline."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
