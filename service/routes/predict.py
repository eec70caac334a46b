"""`POST /predict` and `POST /predict/batch`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Final

import numpy as np
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from contract.errors import ImageError
from service.http import body
from service.http.context import context_of
from service.http.deadline import deadline, infer
from service.http.errors import ApiError
from service.http.json_reply import WrittenJson, as_json
from service.inference.loaded_model import LoadedModel
from service.inference.submission import Probabilities
from service.routes.inferring import answer
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
from service.settings import Settings
from service.state import answering_model, app_state

router = APIRouter(tags=["predict"])

TopK = Annotated[int | None, Query(ge=1, description="classes to list; as many as the model has at most")]

_REFUSED: Final = refused(ErrorReply, *INFERRING)


@dataclass(frozen=True, slots=True)
class AskedImage:
    """One encoded image; an `Asked`."""

    encoded: list[bytes]
    tensor: None = None
    timeout: None = None


@dataclass(frozen=True, slots=True)
class Predict:
    """The steps of `/predict`; an `Endpoint`.

    Attributes:
        top_k: classes to list; the settings' where None.
    """

    top_k: int | None = None

    def parsed_bytes(self, headers: Mapping[str, str], length: int) -> int:
        """None: JSON that holds one image is read at once, however long that is."""
        return 0

    def check(self, headers: Mapping[str, str], loaded: LoadedModel, settings: Settings) -> None:
        """Raise a `ApiError` for more classes than there are, and for a content type that is not taken."""
        _top_k(loaded, self.top_k, settings.top_k)
        body.check_kind(headers.get("content-type", ""))

    def read(self, headers: Mapping[str, str], body_: bytes, loaded: LoadedModel, settings: Settings) -> AskedImage:
        """The image."""
        return AskedImage([body.image(headers.get("content-type", ""), body_)])

    def undecodable(self, place: int, error: ImageError) -> Exception:
        """The error itself."""
        return error

    def reply(
        self, asked: AskedImage, loaded: LoadedModel, probabilities: Probabilities, settings: Settings
    ) -> Response:
        """The likeliest classes."""
        count = _top_k(loaded, self.top_k, settings.top_k)
        return WrittenJson(prediction(loaded, probabilities[0], count))


@router.post(
    "/predict",
    response_model=Prediction,
    responses=_REFUSED,
    openapi_extra=takes(ONE_IMAGE),
)
async def predict(
    request: Request, top_k: TopK = None, model: Model = None, version: Version = None, timeout: Timeout = None
) -> Response:
    """What is in one image: a raw body, a multipart form with a file, or JSON `{"image": "<base64>"}`."""
    return await answer(request, Predict(top_k), answering_model(request, model, version), timeout)


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
) -> Response:
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
        predicted = iter(await infer(request, loaded, np.stack(readable)) if readable else ())
    predictions = [
        _error(result) if isinstance(result, Exception) else prediction(loaded, next(predicted), count)
        for result in results
    ]
    written = f'{{"model":{_text(loaded.name)},"version":{loaded.version},"predictions":[{",".join(predictions)}]}}'
    return WrittenJson(written)


def _top_k(loaded: LoadedModel, asked: int | None, usual: int) -> int:
    classes = len(loaded.card.labels)
    if asked is None:
        return min(usual, classes)
    if asked > classes:
        raise ApiError(422, "invalid_parameter", f"top_k is {asked}: {loaded.name} has {classes} classes")
    return asked


def prediction(loaded: LoadedModel, probabilities: Probabilities, count: int) -> str:
    """The answer for one image, as JSON, from a template: the JSON module takes five times as long."""
    values = probabilities.tolist()
    ranked = sorted(range(len(values)), key=values.__getitem__, reverse=True)[:count]  # equals stay in order
    top = [_class(loaded.card.labels[index], index, round(values[index], 6)) for index in ranked]
    unsure = "true" if values[ranked[0]] < loaded.card.unsure_below else "false"
    return (
        f'{{"model":{_text(loaded.name)},"version":{loaded.version},{top[0]},"unsure":{unsure},'
        f'"top":[{{{"},{".join(top)}}}]}}'
    )


def _class(label: str, index: int, probability: float) -> str:
    number = repr(probability) if math.isfinite(probability) else "null"
    return f'"label":{_text(label)},"index":{index},"probability":{number}'


@lru_cache(4096)
def _text(text: str) -> str:
    """A name or a label as JSON; they are the models' own."""
    return as_json(text)


def _error(error: ImageError | ApiError | Exception) -> str:
    return as_json({"error": {"code": getattr(error, "code", "image"), "message": str(error)}})
