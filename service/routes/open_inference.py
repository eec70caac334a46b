"""The Open Inference Protocol V2 over REST, as KServe, Triton and OpenVINO Model Server speak it.

JSON tensors and the binary tensor extension; uint8 tensors of shape [N, H, W, 3] and encoded images as BYTES of shape
[N]; the classification extension; the model repository extension. Errors are `{"error": "..."}`.

Source: https://github.com/kserve/open-inference-protocol and Triton's protocol extensions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from contract import bundle
from contract.errors import BundleError, BundleNotFound, ImageError
from contract.version import VERSION
from service.http import auth, body, json_limits
from service.http.deadline import deadline
from service.http.json_reply import JsonReply
from service.inference.loaded_model import LoadedModel
from service.inference.model_state import VersionState as State
from service.inference.submission import Probabilities
from service.routes.inferring import answer
from service.routes.open_inference_codec import HEADER, InferenceRequest, parameters, read, reply
from service.routes.tensors import json_object, refuse, undecodable, version_number
from service.routes.versioned import versioned
from service.schemas import (
    BINARY,
    PROTOCOL_ASKING,
    PROTOCOL_INFERRING,
    InferReply,
    InferRequest,
    LoadRequest,
    ProtocolError,
    ProtocolModels,
    Ready,
    VersionState,
    described,
    refused,
    takes,
)
from service.settings import Settings
from service.state import answering_model, app_state

router = APIRouter(prefix="/v2", tags=["open inference protocol"])

EXTENSIONS: Final = ("binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics")

_INFER: Final[dict[str, Any]] = {
    "summary": "Infer",
    "responses": {
        200: {"model": InferReply, "content": {"application/octet-stream": {"schema": BINARY}}},
        **PROTOCOL_INFERRING,
    },
    "openapi_extra": {
        **takes({"application/json": described(InferRequest), "application/octet-stream": BINARY}),
        "parameters": [
            {
                "name": HEADER,
                "in": "header",
                "required": False,
                "description": "bytes of the JSON part, behind which the tensor's follow; 0: the body is the tensor",
                "schema": {"type": "integer", "minimum": 0},
            }
        ],
    },
}
"""What the OpenAPI document says of the routes that run a model."""


class Infer:
    """The steps of `infer`; an `Endpoint`."""

    def parsed_bytes(self, headers: Mapping[str, str], length: int) -> int:
        """Those before the binary tensors."""
        said = headers.get(HEADER, "")
        return min(int(said), length) if re.fullmatch("[0-9]{1,9}", said) else length

    def check(self, headers: Mapping[str, str], loaded: LoadedModel, settings: Settings) -> None:
        """Nothing is known before the body has come."""

    def read(
        self, headers: Mapping[str, str], body: bytes, loaded: LoadedModel, settings: Settings
    ) -> InferenceRequest:
        """What is asked, and in which form the answer shall be."""
        limits = json_limits.of_images(settings.max_images, loaded.card.height, loaded.card.width)
        asked = read(body, headers.get(HEADER), loaded, limits)
        count = len(asked.encoded) if asked.tensor is None else len(asked.tensor)
        if count > settings.max_images:
            refuse(f"the request has {count} images; send {settings.max_images} at most")
        return asked

    def undecodable(self, place: int, error: ImageError) -> Exception:
        """An error that says which image it is."""
        return undecodable(place, error)

    def reply(
        self, asked: InferenceRequest, loaded: LoadedModel, probabilities: Probabilities, settings: Settings
    ) -> Response:
        """Probabilities or classes, as JSON or binary."""
        return reply(loaded, asked, probabilities)


INFER: Final = Infer()

_MICROSECONDS: Final = 1e6
_STATES: Final[dict[State, str]] = {
    "ready": "READY",
    "refused": "UNAVAILABLE",
    "available": "UNAVAILABLE",
}


@router.get("", responses=refused(ProtocolError, 401))
async def server() -> dict[str, Any]:
    """The server's name, version and extensions."""
    return {"name": "kernelscope", "version": VERSION, "extensions": list(EXTENSIONS)}


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live")
async def live() -> dict[str, bool]:
    """200 as long as the process answers."""
    return {"live": True}


@router.head("/health/ready", include_in_schema=False)
@router.get("/health/ready", response_model=Ready, responses=refused(Ready, 503))
async def ready(request: Request) -> JsonReply:
    """200 where every model answers, else 503."""
    is_ready = (await app_state(request).group.status())[0] == "ready"
    return JsonReply({"ready": is_ready}, 200 if is_ready else 503)


@router.get("/models/stats", responses=refused(ProtocolError, 401))
async def all_stats(request: Request) -> dict[str, Any]:
    """`stats` of every version that is served."""
    state = app_state(request)
    loaded = state.registry.all()
    return {"model_stats": [(await state.group.stats(model)).describe(model.name, model.version) for model in loaded]}


@versioned(router.get, "/models/{name}", responses=PROTOCOL_ASKING)
async def metadata(request: Request, name: str, version: str | None) -> dict[str, Any]:
    """What the model takes and gives."""
    state = app_state(request)
    loaded = state.registry.get(name, version_number(version))
    card = loaded.card
    return {
        "name": name,
        "versions": [str(entry.version) for entry in state.registry.versions(name) if entry.state == "ready"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": bundle.INPUT, "datatype": "UINT8", "shape": [-1, card.height, card.width, 3]}],
        "outputs": [{"name": bundle.PROBABILITIES, "datatype": "FP32", "shape": [-1, len(card.labels)]}],
    }


@versioned(router.get, "/models/{name}", "/ready", responses=PROTOCOL_ASKING)
async def model_ready(request: Request, name: str, version: str | None) -> dict[str, Any]:
    """200 where the model answers, else 404."""
    loaded = app_state(request).registry.get(name, version_number(version))
    return {"name": name, "version": str(loaded.version), "ready": True}


@versioned(router.get, "/models/{name}", "/config", responses=PROTOCOL_ASKING)
async def config(request: Request, name: str, version: str | None) -> dict[str, Any]:
    """The model's configuration in Triton's terms."""
    state = app_state(request)
    card = state.registry.get(name, version_number(version)).card
    return {
        "name": name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": state.settings.max_batch_size,
        "input": [{"name": bundle.INPUT, "data_type": "TYPE_UINT8", "dims": [card.height, card.width, 3]}],
        "output": [{"name": bundle.PROBABILITIES, "data_type": "TYPE_FP32", "dims": [len(card.labels)]}],
        "dynamic_batching": {"max_queue_delay_microseconds": round(state.settings.max_queue_delay * _MICROSECONDS)},
        "version_policy": {state.settings.versions: {}},
    }


@versioned(router.get, "/models/{name}", "/stats", responses=PROTOCOL_ASKING)
async def stats(request: Request, name: str, version: str | None) -> dict[str, Any]:
    """How many images and batches a version has run, and how long that took."""
    state = app_state(request)
    model = state.registry.get(name, version_number(version))
    return {"model_stats": [(await state.group.stats(model)).describe(model.name, model.version)]}


@versioned(router.post, "/models/{name}", "/infer", **_INFER)
async def infer_(request: Request, name: str, version: str | None) -> Response:
    """Probabilities of images; the body may be packed with gzip or deflate."""
    return await answer(request, INFER, answering_model(request, name, version_number(version)))


@router.get("/models", responses=refused(ProtocolError, 401))
async def models(request: Request) -> ProtocolModels:
    """Every model in the repository, and which versions of it answer."""
    versions = await _versions(request)
    return ProtocolModels(models=app_state(request).registry.names(), versions=versions)


@router.post("/repository/index", responses=refused(ProtocolError, 401))
async def index(request: Request) -> list[VersionState]:
    """Every version of every model in the repository, and whether it answers."""
    return await _versions(request)


async def _versions(request: Request) -> list[VersionState]:
    registry = app_state(request).registry
    await registry.refresh()
    return [
        VersionState(name=name, version=str(entry.version), state=_STATES[entry.state], reason=entry.reason)
        for name in registry.names()
        for entry in registry.versions(name)
    ]


@router.post(
    "/repository/models/{name}/load",
    responses=refused(ProtocolError, 400, 401, 403, 404, 408, 413, 415, 503),
    openapi_extra=takes({"application/json": described(LoadRequest)}, required=False),
)
async def load(request: Request, name: str) -> dict[str, Any]:
    """Serve a model again; `{"parameters": {"version": "3"}}` stays with that version, which is the way back.

    Takes the admin key.
    """
    state = app_state(request)
    auth.require_admin(request, state.keys)
    async with deadline(request, None):
        sent = await body.body(request, state.settings.max_body, state.settings.timeout)
        asked = json_object(sent or b"{}", json_limits.of_images(0))
    version = parameters(asked).get("version")
    try:
        await state.group.load(name, version_number(None if version is None else str(version)))
    except BundleNotFound:
        raise
    except BundleError as error:
        refuse(str(error))
    return {}


@router.post("/repository/models/{name}/unload", responses=refused(ProtocolError, 401, 403, 404, 503))
async def unload(request: Request, name: str) -> dict[str, Any]:
    """Serve a model no more; what it has accepted is answered. Takes the admin key."""
    state = app_state(request)
    auth.require_admin(request, state.keys)
    try:
        await state.group.unload(name)
    except BundleNotFound:
        raise
    except BundleError as error:  # another process is away: nothing is wrong with the request
        refuse(str(error), HTTPStatus.SERVICE_UNAVAILABLE)
    return {}
