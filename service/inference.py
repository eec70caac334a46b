"""A request's pictures through the model, within the request's time, for as long as its client listens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import Request

from contract.images import Pixels
from service import state
from service.batcher import Overloaded, Probabilities
from service.refusals import Refusal
from service.served import Served


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
    arrived: float = request.scope["state"]["arrived"]
    try:
        async with asyncio.timeout(seconds - (time.perf_counter() - arrived)):
            yield
    except TimeoutError:
        here.metrics.shed.labels("deadline").inc()
        raise Refusal(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "deadline_exceeded",
            f"there was no answer within {seconds:g} s: ask again when there is less to do, or allow more time",
        ) from None


async def infer(request: Request, served: Served, pixels: Pixels) -> Probabilities:
    """Probabilities, float32 (N, classes), of a request's pictures, uint8 (N, H, W, 3).

    Raises:
        Overloaded: too many wait.
        Refusal: the client has left.
    """
    here = state.of(request)
    batcher = served.batcher
    try:
        if batcher.free:  # the run starts now: there is nothing to save by watching the client
            return await batcher.submit(pixels)
        return await _while_listening(request, batcher.submit(pixels))
    except Overloaded:
        here.metrics.shed.labels("queue_full").inc()
        raise


async def _while_listening(request: Request, work: Coroutine[Any, Any, Probabilities]) -> Probabilities:
    answer = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        state.of(request).metrics.cancelled.inc()
        raise Refusal(499, "client_gone", "the client left before there was an answer")
    finally:
        answer.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    """Returns when the client has left. The body has been read, so nothing else can come."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
