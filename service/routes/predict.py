"""`POST /predict` and `POST /predict/batch`."""

from __future__ import annotations

from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, Query, Request

from contract.errors import ImageError
from service.http import body
from service.http.context import context_of
from service.http.deadline import deadline, infer
from service.http.errors import ApiError
from service.http.json_reply import JsonReply
from service.inference.batcher import Probabilities
from service.inference.loaded_model import LoadedModel
from service.routes.parameters import Model, Timeout, Version
from service.schemas import (
    BINARY,
    INFERRING,
    ONE_IMAGE,
    BatchPrediction,
    ErrorReply,
    ImagesRequest,
    Prediction,
    described,
    form,
    refused,
    takes,
)
from service.state import answering_model, app_state

router = APIRouter(tags=["predict"])

TopK = Annotated[int | None, Query(ge=1, description="classes to list; as many as the model has at most")]

_REFUSED: Final = refused(ErrorReply, *INFERRING)


@router.post(
    "/predict",
    response_model=Prediction,
    responses=_REFUSED,
    openapi_extra=takes(ONE_IMAGE),
)
async def predict(
    request: Request, top_k: TopK = None, model: Model = None, version: Version = None, timeout: Timeout = None
) -> JsonReply:
    """What is in one image: a raw body, a multipart form with a file, or JSON `{"image": "<base64>"}`."""
    state = app_state(request)
    loaded = answering_model(request, model, version)
    count = _top_k(loaded, top_k, state.settings.top_k)
    async with deadline(request, timeout):
        sent = await body.one(request, state.settings.max_body, state.settings.timeout)
        pixels = await state.decoder.one(sent, loaded, context_of(request.scope))
        (probabilities,) = await infer(request, loaded, pixels)
    return JsonReply(_prediction(loaded, probabilities, count))


@router.post(
    "/predict/batch",
    response_model=BatchPrediction,
    responses=_REFUSED,
    openapi_extra=takes(
        {
            "multipart/form-data": form({"type": "array", "items": BINARY, "minItems": 1}),
            "application/json": described(ImagesRequest),
        }
    ),
)
async def predict_batch(
    request: Request, top_k: TopK = None, model: Model = None, version: Version = None, timeout: Timeout = None
) -> JsonReply:
    """What is in each of several images: a multipart form with files, or JSON `{"images": ["<base64>", ...]}`.

    An image that cannot be read has an `error` in its place; the others are answered.
    """
    state = app_state(request)
    loaded = answering_model(request, model, version)
    count = _top_k(loaded, top_k, state.settings.top_k)
    async with deadline(request, timeout):
        settings = state.settings
        sent = await body.several(request, settings.max_body, settings.timeout, settings.max_images)
        encoded = [data for data in sent if isinstance(data, bytes)]
        decoded = iter(await state.decoder.several(encoded, loaded, context_of(request.scope)))
        results = [next(decoded) if isinstance(data, bytes) else data for data in sent]
        readable = [result for result in results if isinstance(result, np.ndarray)]
        answers = iter(await infer(request, loaded, np.stack(readable)) if readable else ())
    predictions = [
        _error(result) if isinstance(result, Exception) else _prediction(loaded, next(answers), count)
        for result in results
    ]
    return JsonReply({"model": loaded.name, "version": loaded.version, "predictions": predictions})


def _top_k(loaded: LoadedModel, asked: int | None, usual: int) -> int:
    classes = len(loaded.card.labels)
    if asked is None:
        return min(usual, classes)
    if asked > classes:
        raise ApiError(422, "invalid_parameter", f"top_k is {asked}: {loaded.name} has {classes} classes")
    return asked


def _prediction(loaded: LoadedModel, probabilities: Probabilities, count: int) -> dict[str, Any]:
    labels, values = loaded.card.labels, probabilities.tolist()
    ranked = sorted(range(len(values)), key=values.__getitem__, reverse=True)[:count]  # equals stay in order
    top = [{"label": labels[index], "index": index, "probability": round(values[index], 6)} for index in ranked]
    unsure = values[ranked[0]] < loaded.card.unsure_below
    return {"model": loaded.name, "version": loaded.version, **top[0], "unsure": unsure, "top": top}


def _error(error: ImageError | ApiError | Exception) -> dict[str, Any]:
    return {"error": {"code": getattr(error, "code", "image"), "message": str(error)}}
