"""An endpoint's steps with everything that may have to be waited for between them: the way through FastAPI."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
from fastapi import Request
from fastapi.responses import Response

from contract.errors import ImageError
from contract.preprocessing import Pixels
from service.http import body
from service.http.context import context_of
from service.http.deadline import deadline, infer
from service.http.endpoint import Asked, Endpoint
from service.inference.loaded_model import LoadedModel
from service.routes.tensors import parsed
from service.state import app_state


async def answer(request: Request, endpoint: Endpoint, loaded: LoadedModel, timeout: float | None = None) -> Response:
    """The reply to a request.

    Args:
        request: what came.
        endpoint: what it came to.
        loaded: the model that answers.
        timeout: seconds until the answer is of no use; the settings' where None.

    Raises:
        ApiError: what is wrong with it, or that there was no answer in time.
        ImageError: its image cannot be read.
        Overloaded: too many images wait for the model.
    """
    settings, headers = app_state(request).settings, request.headers
    endpoint.check(headers, loaded, settings)
    async with deadline(request, timeout):
        sent = await body.body(request, settings.max_body, settings.timeout)

        def read() -> Asked:
            asked: Asked = endpoint.read(headers, sent, loaded, settings)
            return asked

        asked = await parsed(endpoint.parsed_bytes(headers, len(sent)), read)
        async with nullcontext() if asked.timeout is None else deadline(request, asked.timeout):
            images = asked.tensor if asked.tensor is not None else await decoded(request, endpoint, asked, loaded)
            probabilities = await infer(request, loaded, images)
    return endpoint.reply(asked, loaded, probabilities, settings)


async def decoded(request: Request, endpoint: Endpoint, asked: Asked, loaded: LoadedModel) -> Pixels:
    """The encoded images as a model's input, uint8 (N, H, W, 3). Raises `Endpoint.undecodable` of the first that is."""
    decoder, context = app_state(request).decoder, context_of(request.scope)
    if len(asked.encoded) == 1:
        try:
            return await decoder.one(asked.encoded[0], loaded, context)
        except ImageError as error:
            raise endpoint.undecodable(0, error) from None
    results = await decoder.several(asked.encoded, loaded, context)
    for place, result in enumerate(results):
        if isinstance(result, ImageError):
            raise endpoint.undecodable(place, result)
    return np.stack([result for result in results if isinstance(result, np.ndarray)])
