"""A request's deadline, and its images through the model within it, for as long as its client is connected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request

from contract.preprocessing import Pixels
from service.http.body import too_slow
from service.http.context import context_of
from service.http.endpoint import Accounts, deadline_exceeded
from service.http.errors import CLIENT_CLOSED_REQUEST, ApiError
from service.inference.batcher import Overloaded
from service.inference.loaded_model import LoadedModel
from service.inference.submission import Probabilities
from service.observability import tracing
from service.state import app_state


@asynccontextmanager
async def deadline(request: Request, timeout: float | None) -> AsyncIterator[None]:
    """Let a block take as long as the request may take, counted from its arrival: body, decoding, queue and run.

    Args:
        request: what came.
        timeout: seconds; the settings' where None.

    Raises:
        ApiError: when the time is up, 503, or 408 where the body has taken it; what waits for the model is taken from
            its queue.
    """
    state, context = app_state(request), context_of(request.scope)
    seconds = state.settings.timeout if timeout is None else timeout
    context.deadline = min(context.deadline, context.arrived + seconds)
    try:
        async with asyncio.timeout(context.seconds_left), context.holding():
            yield
    except TimeoutError:
        if context.body_pending and seconds >= state.settings.timeout:  # else it is the client that cannot wait
            raise too_slow(seconds) from None
        state.metrics.shed.labels("deadline").inc()
        raise deadline_exceeded(seconds) from None


async def infer(request: Request, loaded: LoadedModel, images: Pixels) -> Probabilities:
    """Probabilities, float32 (N, classes), of a request's images, uint8 (N, H, W, 3).

    Raises:
        Overloaded: admission control rejects them.
        ApiError: the client has disconnected.
    """
    state, context = app_state(request), context_of(request.scope)
    try:
        awaited = loaded.batcher.submit(images, context.seconds_left)
    except Overloaded:
        state.metrics.shed.labels("queue_full").inc()
        raise
    context.pending.add(awaited.answer)
    try:
        probabilities = await awaited
    except asyncio.CancelledError:
        if awaited.answer.done() and not is_cancelling():
            state.metrics.cancelled.inc()
            raise ApiError(CLIENT_CLOSED_REQUEST, "client_gone", "the client left before there was an answer") from None
        raise
    finally:
        context.pending.discard(awaited.answer)
    Accounts(state.metrics, state.feedback).add(context, loaded, images, probabilities)
    queued = awaited.submission
    tracing.record("queue", queued.since, queued.started)
    tracing.record("inference", queued.started, queued.ended, images=len(images))
    return probabilities


def is_cancelling() -> bool:
    """Whether it is this request's own task that is being cancelled, as by its deadline."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
