"""The Open Inference Protocol V2 over REST, as KServe, Triton and OpenVINO Model Server speak it.

JSON tensors and the binary tensor extension; uint8 tensors of shape [N, H, W, 3] and encoded pictures as BYTES of shape
[N]; the classification extension; the model repository extension. Errors are `{"error": "..."}`.

Source: https://github.com/kserve/open-inference-protocol and Triton's protocol extensions.
"""

from __future__ import annotations

import asyncio
import json
import struct
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from contract import bundle
from contract.errors import BundleError, BundleNotFound
from contract.images import Pixels
from contract.version import VERSION
from service import intake, keys, state
from service.batcher import Probabilities
from service.inference import infer, within
from service.registry import Status
from service.schemas import (
    BINARY,
    PROTOCOL_ASKING,
    PROTOCOL_INFERRING,
    InferReply,
    InferRequest,
    LoadRequest,
    ProtocolError,
    Ready,
    described,
    refused,
    takes,
)
from service.served import Served
from service.tensors import (
    decoded,
    from_base64,
    from_length_prefixed,
    inflated,
    json_object,
    pixels,
    refuse,
    version_number,
)

router = APIRouter(prefix="/v2", tags=["open inference protocol"])

HEADER: Final = "inference-header-content-length"
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

_MICROSECONDS: Final = 1e6
_LARGEST: Final = 2**31 - 1
"""Above any size, and any time in microseconds, that makes sense here."""
_STATES: Final[dict[Status, str]] = {"ready": "READY", "refused": "UNAVAILABLE", "available": "UNAVAILABLE"}


@router.get("", responses=refused(ProtocolError, 401))
async def server() -> dict[str, Any]:
    """The server's name, version and extensions."""
    return {"name": "kernelscope", "version": VERSION, "extensions": list(EXTENSIONS)}


@router.get("/health/live")
async def live() -> dict[str, bool]:
    """200 as long as the process answers."""
    return {"live": True}


@router.get("/health/ready", response_model=Ready, responses=refused(Ready, 503))
async def ready(request: Request) -> JSONResponse:
    """200 where every model answers, else 503."""
    is_ready = (await state.of(request).health())[0] == "ready"
    return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)


@router.get("/models/stats", responses=refused(ProtocolError, 401))
async def all_stats(request: Request) -> dict[str, Any]:
    """`stats` of every version that is served."""
    here = state.of(request)
    served = here.registry.all()
    return {"model_stats": [(await here.stats(one)).describe(one.name, one.version) for one in served]}


@router.get("/models/{name}", responses=PROTOCOL_ASKING)
@router.get("/models/{name}/versions/{version}", responses=PROTOCOL_ASKING)
async def metadata(request: Request, name: str, version: str | None = None) -> dict[str, Any]:
    """What the model takes and gives."""
    here = state.of(request)
    served = here.registry.get(name, version_number(version))
    card = served.card
    return {
        "name": name,
        "versions": [str(one.version) for one in here.registry.versions(name) if one.status == "ready"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": bundle.INPUT, "datatype": "UINT8", "shape": [-1, card.height, card.width, 3]}],
        "outputs": [{"name": bundle.PROBABILITIES, "datatype": "FP32", "shape": [-1, len(card.labels)]}],
    }


@router.get("/models/{name}/ready", responses=PROTOCOL_ASKING)
@router.get("/models/{name}/versions/{version}/ready", responses=PROTOCOL_ASKING)
async def model_ready(request: Request, name: str, version: str | None = None) -> dict[str, Any]:
    """200 where the model answers, else 404."""
    served = state.of(request).registry.get(name, version_number(version))
    return {"name": name, "version": str(served.version), "ready": True}


@router.get("/models/{name}/config", responses=PROTOCOL_ASKING)
@router.get("/models/{name}/versions/{version}/config", responses=PROTOCOL_ASKING)
async def config(request: Request, name: str, version: str | None = None) -> dict[str, Any]:
    """The model's configuration in Triton's terms."""
    here = state.of(request)
    card = here.registry.get(name, version_number(version)).card
    return {
        "name": name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": here.settings.max_batch_size,
        "input": [{"name": bundle.INPUT, "data_type": "TYPE_UINT8", "dims": [card.height, card.width, 3]}],
        "output": [{"name": bundle.PROBABILITIES, "data_type": "TYPE_FP32", "dims": [len(card.labels)]}],
        "dynamic_batching": {"max_queue_delay_microseconds": round(here.settings.max_queue_delay * _MICROSECONDS)},
        "version_policy": {here.settings.versions: {}},
    }


@router.get("/models/{name}/stats", responses=PROTOCOL_ASKING)
@router.get("/models/{name}/versions/{version}/stats", responses=PROTOCOL_ASKING)
async def stats(request: Request, name: str, version: str | None = None) -> dict[str, Any]:
    """How many pictures and batches a version has run, and how long that took."""
    here = state.of(request)
    one = here.registry.get(name, version_number(version))
    return {"model_stats": [(await here.stats(one)).describe(one.name, one.version)]}


@router.post("/models/{name}/infer", **_INFER)
@router.post("/models/{name}/versions/{version}/infer", **_INFER)
async def infer_(request: Request, name: str, version: str | None = None) -> Response:
    """Probabilities of pictures; the body may be packed with gzip or deflate."""
    here = state.of(request)
    served = state.serving(request, name, version_number(version))
    limit = here.settings.max_body
    async with within(request, None):
        sent = inflated(await intake.body(request, limit), request.headers.get("content-encoding", ""), limit)
        asked = await asyncio.to_thread(_read, sent, request.headers.get(HEADER), served)
        async with within(request, asked.timeout):
            tensor = await decoded(here, asked.encoded, served) if asked.tensor is None else asked.tensor
            if len(tensor) > here.settings.max_pictures:
                refuse(f"the request has {len(tensor)} pictures; send {here.settings.max_pictures} at most")
            probabilities = await infer(request, served, tensor)
    return _reply(served, asked, probabilities)


@router.post("/repository/index", responses=refused(ProtocolError, 401))
async def index(request: Request) -> list[dict[str, str]]:
    """Every version of every model in the repository, and whether it answers."""
    registry = state.of(request).registry
    return [
        {"name": name, "version": str(one.version), "state": _STATES[one.status], "reason": one.reason}
        for name in registry.names()
        for one in registry.versions(name)
    ]


@router.post(
    "/repository/models/{name}/load",
    responses=refused(ProtocolError, 400, 401, 403, 404, 413, 503),
    openapi_extra=takes({"application/json": described(LoadRequest)}, required=False),
)
async def load(request: Request, name: str) -> dict[str, Any]:
    """Serve a model again; `{"parameters": {"version": "3"}}` stays with that version, which is the way back.

    Takes the admin key.
    """
    here = state.of(request)
    keys.require_admin(request, here.settings)
    async with within(request, None):
        asked = json_object(await intake.body(request, here.settings.max_body) or b"{}")
    version = _parameters(asked).get("version")
    try:
        await here.load(name, version_number(None if version is None else str(version)))
    except BundleNotFound:
        raise
    except BundleError as error:
        refuse(str(error))
    return {}


@router.post("/repository/models/{name}/unload", responses=refused(ProtocolError, 401, 403, 404, 503))
async def unload(request: Request, name: str) -> dict[str, Any]:
    """Serve a model no more; what it has accepted is answered. Takes the admin key."""
    here = state.of(request)
    keys.require_admin(request, here.settings)
    try:
        await here.unload(name)
    except BundleNotFound:
        raise
    except BundleError as error:  # another process is away: nothing is wrong with the request
        refuse(str(error), HTTPStatus.SERVICE_UNAVAILABLE)
    return {}


# --- requests


@dataclass(frozen=True)
class _Asked:
    """An inference request: a tensor or encoded pictures, and how the answer shall look."""

    tensor: Pixels | None
    encoded: list[bytes]
    identity: str | None
    timeout: float | None
    binary: bool
    classification: int


def _read(body: bytes, header: str | None, served: Served) -> _Asked:
    """Parse a whole request; called on a thread, for a large JSON tensor takes milliseconds."""
    if header is None:
        return _from_json(json_object(body), b"", served, binary=False)
    if not header.isdecimal() or not header.isascii() or len(header) > 12 or int(header) > len(body):
        refuse(f"{HEADER} is {header[:20]!r}; the body has {len(body)} bytes")
    length = int(header)
    if length == 0:
        return _from_raw(body, served)
    return _from_json(json_object(body[:length]), body[length:], served, binary=True)


def _from_raw(body: bytes, served: Served) -> _Asked:
    """A request that is one input's bytes and nothing else: an encoded picture, or as many raw ones as fit."""
    card = served.card
    each = card.height * card.width * 3
    options = {"identity": None, "timeout": None, "binary": True, "classification": 0}
    if body and len(body) % each == 0:
        shape = (len(body) // each, card.height, card.width, 3)
        return _Asked(np.frombuffer(body, np.uint8).reshape(shape), [], **options)  # type: ignore[arg-type]
    return _Asked(None, [body], **options)  # type: ignore[arg-type]


def _from_json(asked: dict[str, Any], binary_parts: bytes, served: Served, *, binary: bool) -> _Asked:
    inputs = asked.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        refuse(f"inputs must list one tensor, {bundle.INPUT!r}")
    tensor = inputs[0]
    if tensor.get("name") != bundle.INPUT:
        refuse(f"there is no input {str(tensor.get('name'))[:80]!r}: the model takes {bundle.INPUT!r}")
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(_whole(n) and 0 < n <= _LARGEST for n in shape):
        refuse(f"shape must list whole numbers above 0, at most {_LARGEST}")
    size = _parameters(tensor).get("binary_data_size")
    if size is not None and not (_whole(size) and size == len(binary_parts)):
        refuse(f"binary_data_size is {str(size)[:20]}; {len(binary_parts)} bytes follow the JSON part")
    if size is None and binary_parts:
        refuse(f"{len(binary_parts)} bytes follow the JSON part, and no input's binary_data_size names them")
    if size is None and "data" not in tensor:
        refuse("the input has neither data nor binary_data_size")
    data = binary_parts if size is not None else tensor["data"]
    tensor_pixels, encoded = _content(tensor.get("datatype"), shape, data, served)
    wants_binary, classification = _outputs(asked, served)
    microseconds = _parameters(asked).get("timeout")
    if microseconds is not None and not (_whole(microseconds) and microseconds <= _LARGEST):
        refuse(f"timeout must be a whole number of microseconds, at most {_LARGEST}")
    identity = asked.get("id")
    if identity is not None and not (isinstance(identity, str) and identity.isprintable()):
        refuse("id must be a string that can be printed")
    return _Asked(
        tensor_pixels,
        encoded,
        identity,
        microseconds / _MICROSECONDS if microseconds else None,
        binary and wants_binary,
        classification,
    )


def _content(datatype: Any, shape: list[int], data: Any, served: Served) -> tuple[Pixels | None, list[bytes]]:
    card = served.card
    if datatype == "UINT8":
        if len(shape) != 4 or shape[1:] != [card.height, card.width, 3]:
            refuse(f"shape is {str(shape)[:80]}; the model takes [N, {card.height}, {card.width}, 3]")
        return pixels(shape, data), []
    if datatype == "BYTES":
        if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):
            refuse(f"shape is {str(shape)[:80]}; encoded pictures have shape [N]")
        encoded = from_length_prefixed(data) if isinstance(data, bytes) else from_base64(data)
        if len(encoded) != shape[0]:
            refuse(f"shape says {shape[0]} pictures, the data hold {len(encoded)}")
        return None, encoded
    return refuse(f"datatype is {str(datatype)[:40]!r}; send UINT8 pixels, or encoded pictures as BYTES")


def _parameters(of: dict[str, Any]) -> dict[str, Any]:
    found = of.get("parameters")
    if found is None:
        return {}
    if not isinstance(found, dict):
        refuse("parameters must be an object")
    return found


def _whole(value: Any) -> bool:
    """Whether JSON has a whole number there, 0 or above; Python takes true for 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _switch(of: dict[str, Any], name: str, *, usual: bool) -> bool:
    """A parameter that is true or false; `usual` where it is left out."""
    found = of.get(name)
    if found is not None and not isinstance(found, bool):
        refuse(f"{name} must be true or false")
    return usual if found is None else found


def _outputs(asked: dict[str, Any], served: Served) -> tuple[bool, int]:
    """Whether the answer shall be binary, and how many classes it shall name instead of giving all probabilities."""
    binary = _switch(_parameters(asked), "binary_data_output", usual=False)
    outputs = asked.get("outputs")
    if outputs is None or outputs == []:
        return binary, 0
    if not isinstance(outputs, list) or len(outputs) != 1 or not isinstance(outputs[0], dict):
        refuse(f"outputs must list one tensor, {bundle.PROBABILITIES!r}")
    if outputs[0].get("name") != bundle.PROBABILITIES:
        refuse(f"there is no output {str(outputs[0].get('name'))[:80]!r}: the model gives {bundle.PROBABILITIES!r}")
    parameters = _parameters(outputs[0])
    count = parameters.get("classification")
    if count is not None and not (_whole(count) and count <= _LARGEST):
        refuse(f"classification must be a whole number, at most {_LARGEST}")
    return _switch(parameters, "binary_data", usual=binary), min(count or 0, len(served.card.labels))


# --- replies


def _reply(served: Served, asked: _Asked, probabilities: Probabilities) -> Response:
    output: dict[str, Any] = {"name": bundle.PROBABILITIES}
    if asked.classification:
        texts = [_classes(served, row, asked.classification) for row in probabilities]
        output |= {"datatype": "BYTES", "shape": [len(texts), asked.classification]}
        flat = [text for row in texts for text in row]
        binary = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in flat)
    else:
        output |= {"datatype": "FP32", "shape": list(probabilities.shape)}
        binary = np.ascontiguousarray(probabilities, "<f4").tobytes()
    head: dict[str, Any] = {"model_name": served.name, "model_version": str(served.version)}
    if asked.identity is not None:
        head["id"] = asked.identity
    if not asked.binary:
        data = flat if asked.classification else np.round(probabilities.astype(float), 8).ravel().tolist()
        return JSONResponse({**head, "outputs": [{**output, "data": data}]})
    text = json.dumps({**head, "outputs": [{**output, "parameters": {"binary_data_size": len(binary)}}]}).encode()
    return Response(
        text + binary,
        media_type="application/octet-stream",
        headers={"Inference-Header-Content-Length": str(len(text))},
    )


def _classes(served: Served, row: Probabilities, count: int) -> list[str]:
    """The likeliest classes as `probability:index:label`, Triton's form."""
    best = np.argsort(-row, kind="stable")[:count].tolist()
    return [f"{row[index]:.6f}:{index}:{served.card.labels[index]}" for index in best]
