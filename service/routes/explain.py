"""How the model decides: `POST /explain`, `POST /activations`, `GET /models/{name}/layers` and `.../kernels`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from service.explanation.errors import InvalidOption
from service.explanation.explainer import Busy
from service.explanation.tasks import Answer, Form, Kind, Options, Task
from service.http import body
from service.http.context import context_of
from service.http.deadline import deadline, is_cancelling
from service.http.errors import CLIENT_CLOSED_REQUEST, ApiError
from service.http.negotiation import preferred
from service.inference.loaded_model import LoadedModel
from service.routes.explain_schemas import (
    Activations,
    Explanation,
    Explanations,
    Features,
    Kernels,
    LayerTable,
    Neighbours,
    Unit,
    png_or,
)
from service.routes.parameters import Model, Timeout, Version
from service.routes.tensorflow_serving import read_images
from service.routes.tensors import decoded, parsed, refuse, version_number
from service.routes.versioned import versioned
from service.schemas import (
    ONE_IMAGE,
    PROTOCOL_INFERRING,
    ErrorReply,
    ProtocolError,
    RowRequest,
    described,
    refused,
    takes,
)
from service.state import app_state, find_model

router = APIRouter(tags=["inside"])

_MOST_INSTANCES: Final = 8
"""Images in one request to KServe's path: each takes its turn."""
_REFUSED: Final = refused(ErrorReply, 400, 401, 404, 408, 409, 413, 415, 422, 503)
_ASKING: Final = refused(ErrorReply, 401, 404, 409, 422, 503)
_TYPES: Final[dict[str, Form]] = {
    "application/json": "json",
    "image/png": "png",
    "application/octet-stream": "binary",
}

Layer = Annotated[
    str, Query(min_length=1, description="a layer, as GET /models/{name}/layers lists them", examples=["dense1"])
]
Channel = Annotated[int | None, Query(ge=0, description="one channel; all if left out")]


def _options(
    method: Annotated[
        str, Query(description="contributions, occlusion, integrated_gradients or gradient_activation")
    ] = "contributions",
    target: Annotated[
        str | None, Query(alias="class", description="a class' name or index; the likeliest if left out")
    ] = None,
    against: Annotated[str | None, Query(description="another class: why the one and not the other")] = None,
    top: Annotated[int | None, Query(ge=0, description="contributions: channels to list; 0 for all (8)")] = None,
    without: Annotated[
        str | None, Query(description="contributions: channels, separated by commas, to switch off together")
    ] = None,
    fill: Annotated[
        str | None, Query(description="occlusion: what covers: grey, black, white, mean or blur (grey)")
    ] = None,
    patch: Annotated[
        int | None, Query(ge=1, le=4096, description="occlusion: a patch's side in pixels (an eighth)")
    ] = None,
    stride: Annotated[
        int | None, Query(ge=1, le=4096, description="occlusion: from patch to patch (half a patch)")
    ] = None,
    baseline: Annotated[
        str | None, Query(description="integrated gradients: blur, grey, black, white or mean (blur)")
    ] = None,
    steps: Annotated[int | None, Query(ge=1, le=512, description="integrated gradients: steps (50)")] = None,
    layer: Annotated[
        str | None, Query(description="gradient × activation: a layer (the last with 7 rows and columns)")
    ] = None,
    view: Annotated[
        Literal["overlay", "alone"], Query(description="PNG: over the image in grey, or by itself")
    ] = "overlay",
) -> Options:
    return Options(
        method=method,
        target=target,
        against=against,
        top=top,
        without=None if without is None else _numbers("without", without),
        fill=fill,
        patch=patch,
        stride=stride,
        baseline=baseline,
        steps=steps,
        layer=layer,
        view=view,
    )


Explaining = Annotated[Options, Depends(_options)]


@router.post(
    "/explain",
    responses={200: {"model": Explanation, "content": png_or()}, **_REFUSED},
    openapi_extra=takes(ONE_IMAGE),
)
async def explain(
    request: Request, options: Explaining, model: Model = None, version: Version = None, timeout: Timeout = None
) -> Response:
    """Why the model answers so; as numbers, or with `Accept: image/png` as a heat map."""
    return await _look(request, "explain", model, version, timeout, options, types=("json", "png"))


@router.post(
    "/activations",
    responses={
        200: {"model": Activations | Unit, "content": png_or("application/octet-stream")},
        **_REFUSED,
    },
    openapi_extra=takes(ONE_IMAGE),
)
async def activations(
    request: Request,
    layer: Layer,
    channel: Channel = None,
    unit: Annotated[str | None, Query(description="row,column,channel: the arithmetic of that value")] = None,
    model: Model = None,
    version: Version = None,
    timeout: Timeout = None,
) -> Response:
    """A layer's feature maps: as numbers, as a contact sheet (`Accept: image/png`), or as float32 in little-endian
    order by channel, row and column (`Accept: application/octet-stream`). With `unit`, how one value arises."""
    options = Options(layer=layer, channel=channel, unit=None if unit is None else _unit(unit))
    types: tuple[Form, ...] = ("json",) if unit else ("json", "png", "binary")
    return await _look(request, "activations", model, version, timeout, options, types=types)


@router.get("/models/{name}/layers", responses={200: {"model": LayerTable}, **_ASKING})
async def layers(request: Request, name: str, version: Version = None, timeout: Timeout = None) -> Response:
    """The network layer by layer: sizes, receptive fields, parameters, multiply-adds; and which methods explain it."""
    return await _look(request, "layers", name, version, timeout, Options(), types=("json",))


@router.get("/models/{name}/kernels", responses={200: {"model": Kernels, "content": png_or()}, **_ASKING})
async def kernels(
    request: Request,
    name: str,
    layer: Layer,
    channel: Channel = None,
    version: Version = None,
    timeout: Timeout = None,
) -> Response:
    """A convolution's kernels: as a sheet, or as numbers (`Accept: application/json`)."""
    options = Options(layer=layer, channel=channel)
    return await _look(request, "kernels", name, version, timeout, options, types=("png", "json"))


@router.get("/models/{name}/features", responses={200: {"model": Features}, **_ASKING})
async def features(
    request: Request,
    name: str,
    layer: Layer,
    channel: Annotated[int, Query(ge=0, description="a channel of the layer")],
    version: Version = None,
    timeout: Timeout = None,
) -> Response:
    """What a channel responds to: the training images that excite it most and least, and one that was made for it.

    Of the training images there are numbers alone, unless they were kept (`kernelscope features --keep-examples`).
    """
    options = Options(layer=layer, channel=channel)
    return await _look(request, "features", name, version, timeout, options, types=("json",))


@router.post("/neighbours", responses={200: {"model": Neighbours}, **_REFUSED}, openapi_extra=takes(ONE_IMAGE))
async def neighbours(
    request: Request,
    count: Annotated[int, Query(ge=1, le=100, description="how many")] = 8,
    model: Model = None,
    version: Version = None,
    timeout: Timeout = None,
) -> Response:
    """The training images that are nearest to this one by the network's last features."""
    return await _look(request, "neighbours", model, version, timeout, Options(count=count), types=("json",))


_KSERVE: Final[dict[str, Any]] = {
    "responses": {200: {"model": Explanations}, **PROTOCOL_INFERRING, **refused(ProtocolError, 409)},
    "openapi_extra": takes({"application/json": described(RowRequest)}),
}


@versioned(router.post, "/v1/models/{name}", ":explain", **_KSERVE)
async def kserve(request: Request, name: str, options: Explaining, version: str | None) -> Response:
    """KServe's path: `instances`, as `:predict` takes them, each explained as `POST /explain` does."""
    state = app_state(request)
    loaded = find_model(request, name, version_number(version))
    async with deadline(request, None):
        text = await body.body(request, state.settings.max_body, state.settings.timeout)
        _, encoded, images = await parsed(len(text), lambda: read_images(text, loaded, _MOST_INSTANCES))
        pixels = await decoded(request, encoded, loaded) if images is None else images
        if len(pixels) > _MOST_INSTANCES:
            refuse(f"the request has {len(pixels)} images; send {_MOST_INSTANCES} at most to be explained")
        answers = [
            await _answer(request, loaded, Task("explain", *_named(loaded), "json", image[None], options))
            for image in pixels
        ]
    return Response(
        b'{"explanations": [%s]}' % b", ".join(answer.body for answer in answers), media_type="application/json"
    )


async def _look(
    request: Request,
    kind: Kind,
    model: str | None,
    version: int | None,
    timeout: float | None,
    options: Options,
    *,
    types: tuple[Form, ...],
) -> Response:
    """Answer in the form that the request prefers of `types`; with an image, where it is posted."""
    state = app_state(request)
    loaded = find_model(request, model, version)
    media_types = {media_type: form for form in types for media_type, other in _TYPES.items() if other == form}
    form = media_types[preferred(request.headers.get("accept", ""), tuple(media_types))]
    async with deadline(request, timeout):
        image = None
        if request.method == "POST":
            sent = await body.one(request, state.settings.max_body, state.settings.timeout)
            image = await state.decoder.one(sent, loaded, context_of(request.scope))
        answer = await _answer(request, loaded, Task(kind, *_named(loaded), form, image, options))
    return Response(answer.body, media_type=answer.media_type, headers={"Vary": "Accept", **answer.headers})


async def _answer(request: Request, loaded: LoadedModel, task: Task) -> Answer:
    """Have a task done, for as long as the client is connected and what `/predict` needs is left alone."""
    state, pending = app_state(request), context_of(request.scope).pending
    if loaded.batcher.depth >= state.settings.max_batch_size:
        raise Busy("images wait for the model to answer, and these come first: try again in a moment")
    job = asyncio.ensure_future(state.explainer.answer(task))
    pending.add(job)
    try:
        return await job
    except asyncio.CancelledError:
        if job.cancelled() and not is_cancelling():
            state.metrics.cancelled.inc()
            raise ApiError(CLIENT_CLOSED_REQUEST, "client_gone", "the client left before there was an answer") from None
        raise
    finally:
        pending.discard(job)


def _named(loaded: LoadedModel) -> tuple[Path, str, int]:
    return loaded.bundle.folder.absolute(), loaded.name, loaded.version


def _unit(text: str) -> tuple[int, int, int]:
    try:
        row, column, channel = _numbers("unit", text)
    except ValueError:
        raise InvalidOption(f"unit is {text[:80]!r}: give row,column,channel, as in 3,4,17") from None
    return row, column, channel


def _numbers(name: str, text: str) -> tuple[int, ...]:
    words = text.split(",")
    if not all(word.strip().isascii() and word.strip().isdecimal() and len(word) < 9 for word in words):
        raise InvalidOption(f"{name} is {text[:80]!r}: give whole numbers with commas between, as in 3,4,17")
    return tuple(int(word) for word in words)
