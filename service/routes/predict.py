"""`POST /predict` and `POST /predict/batch`."""

from __future__ import annotations

from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from contract.errors import ImageError
from service import state
from service.http import body
from service.http.deadline import infer, within
from service.http.errors import Refusal
from service.inference.batcher import Probabilities
from service.inference.loaded_model import Served
from service.schemas import (
    BINARY,
    INFERRING,
    BatchPrediction,
    ErrorReply,
    ImageRequest,
    ImagesRequest,
    Prediction,
    described,
    refused,
    takes,
)

router = APIRouter(tags=["predict"])

TopK = Annotated[int | None, Query(ge=1, description="classes to list; as many as the model has at most")]
Model = Annotated[str | None, Query(description="a model's name; the default one if left out")]
Timeout = Annotated[float | None, Query(gt=0, le=3600, description="seconds until the answer is of no use any more")]
Version = Annotated[int | None, Query(ge=1, description="a version; the newest if left out")]

_REFUSED: Final = refused(ErrorReply, *INFERRING)


def _form(file: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"file": file}, "required": ["file"]}


@router.post(
    "/predict",
    response_model=Prediction,
    responses=_REFUSED,
    openapi_extra=takes(
        {
            "multipart/form-data": _form(BINARY),
            "application/json": described(ImageRequest),
            "application/octet-stream": BINARY,
            "image/*": BINARY,
        }
    ),
)
async def predict(
    request: Request, top_k: TopK = None, model: Model = None, version: Version = None, timeout: Timeout = None
) -> JSONResponse:
    """What is in one image: a raw body, a multipart form with a file, or JSON `{"image": "<base64>"}`."""
    here = state.of(request)
    served = state.serving(request, model, version)
    count = _top_k(served, top_k, here.settings.top_k)
    async with within(request, timeout):
        pixels = await here.decoder.one(await body.one(request, here.settings.max_body), served)
        (probabilities,) = await infer(request, served, pixels)
    return JSONResponse(_prediction(served, probabilities, count))


@router.post(
    "/predict/batch",
    response_model=BatchPrediction,
    responses=_REFUSED,
    openapi_extra=takes(
        {
            "multipart/form-data": _form({"type": "array", "items": BINARY, "minItems": 1}),
            "application/json": described(ImagesRequest),
        }
    ),
)
async def predict_batch(
    request: Request, top_k: TopK = None, model: Model = None, version: Version = None, timeout: Timeout = None
) -> JSONResponse:
    """What is in each of several images: a multipart form with files, or JSON `{"images": ["<base64>", ...]}`.

    An image that cannot be read has an `error` in its place; the others are answered.
    """
    here = state.of(request)
    served = state.serving(request, model, version)
    count = _top_k(served, top_k, here.settings.top_k)
    async with within(request, timeout):
        sent = await body.several(request, here.settings.max_body, here.settings.max_images)
        decoded = iter(await here.decoder.several([data for data in sent if isinstance(data, bytes)], served))
        results = [next(decoded) if isinstance(data, bytes) else data for data in sent]
        readable = [result for result in results if isinstance(result, np.ndarray)]
        answers = iter(await infer(request, served, np.stack(readable)) if readable else ())
    predictions = [
        _error(result) if isinstance(result, Exception) else _prediction(served, next(answers), count)
        for result in results
    ]
    return JSONResponse({"model": served.name, "version": served.version, "predictions": predictions})


def _top_k(served: Served, asked: int | None, usual: int) -> int:
    classes = len(served.card.labels)
    if asked is None:
        return min(usual, classes)
    if asked > classes:
        raise Refusal(422, "invalid_parameter", f"top_k is {asked}: {served.name} has {classes} classes")
    return asked


def _prediction(served: Served, probabilities: Probabilities, count: int) -> dict[str, Any]:
    labels, values = served.card.labels, probabilities.tolist()
    ranked = sorted(range(len(values)), key=values.__getitem__, reverse=True)[:count]  # equals stay in order
    top = [{"label": labels[index], "index": index, "probability": round(values[index], 6)} for index in ranked]
    unsure = values[ranked[0]] < served.card.unsure_below
    return {"model": served.name, "version": served.version, **top[0], "unsure": unsure, "top": top}


def _error(error: ImageError | Refusal | Exception) -> dict[str, Any]:
    return {"error": {"code": getattr(error, "code", "image"), "message": str(error)}}
