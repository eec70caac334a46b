"""TensorFlow Serving's REST API, for clients that speak it.

Source: https://www.tensorflow.org/tfx/serving/api_rest. Errors are `{"error": "..."}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from contract import bundle
from contract.errors import ImageError
from contract.preprocessing import Pixels
from service.http import json_limits
from service.http.errors import ApiError
from service.http.json_reply import JsonReply
from service.inference.loaded_model import LoadedModel
from service.inference.submission import Probabilities
from service.routes.inferring import answer
from service.routes.tensors import from_base64, json_object, pixels, refuse, undecodable, version_number
from service.routes.versioned import versioned
from service.schemas import (
    PROTOCOL_ASKING,
    PROTOCOL_INFERRING,
    ColumnReply,
    ColumnRequest,
    ProtocolError,
    ProtocolModels,
    RowReply,
    RowRequest,
    VersionState,
    described,
    refused,
    takes,
)
from service.settings import Settings
from service.state import answering_model, app_state

router = APIRouter(prefix="/v1", tags=["tensorflow serving"])

_PREDICT: Final[dict[str, Any]] = {
    "responses": {200: {"model": RowReply | ColumnReply}, **PROTOCOL_INFERRING},
    "openapi_extra": takes({"application/json": described(RowRequest | ColumnRequest)}),
}
"""What the OpenAPI document says of the routes that run a model."""
_STATES: Final = {"ready": "AVAILABLE", "refused": "END", "available": "END"}


@dataclass(frozen=True, slots=True)
class AskedInstances:
    """Images, and whether the answer goes by rows; an `Asked`."""

    row_wise: bool
    encoded: list[bytes]
    tensor: Pixels | None
    timeout: None = None


class Predict:
    """The steps of `predict`; an `Endpoint`."""

    def parsed_bytes(self, headers: Mapping[str, str], length: int) -> int:
        """All of them."""
        return length

    def check(self, headers: Mapping[str, str], loaded: LoadedModel, settings: Settings) -> None:
        """Nothing is known before the body has come."""

    def read(self, headers: Mapping[str, str], body: bytes, loaded: LoadedModel, settings: Settings) -> AskedInstances:
        """What is asked."""
        return AskedInstances(*read_images(body, loaded, settings.max_images))

    def undecodable(self, place: int, error: ImageError) -> Exception:
        """An error that says which image it is."""
        return undecodable(place, error)

    def reply(
        self, asked: AskedInstances, loaded: LoadedModel, probabilities: Probabilities, settings: Settings
    ) -> JsonReply:
        """Probabilities, to eight digits."""
        values = probabilities.astype(float).round(8).tolist()
        return JsonReply({"predictions" if asked.row_wise else "outputs": values})


PREDICT: Final = Predict()


# before the routes whose {name} would take in :predict, so that what another method is told is this route's
@versioned(router.post, "/models/{name}", ":predict", **_PREDICT)
async def predict(request: Request, name: str, version: str | None) -> Response:
    """Probabilities of `instances`, one a row, or of `inputs`: pixels, or `{"b64": "..."}` for an encoded image."""
    return await answer(request, PREDICT, answering_model(request, name, version_number(version)))


@router.get("/models", responses=refused(ProtocolError, 401))
async def models(request: Request) -> ProtocolModels:
    """Every model in the repository, as KServe lists them, and which versions of it answer."""
    registry = app_state(request).registry
    await registry.refresh()
    return ProtocolModels(
        models=registry.names(),
        versions=[
            VersionState(name=name, version=str(entry.version), state=_STATES[entry.state], reason=entry.reason)
            for name in registry.names()
            for entry in registry.versions(name)
        ],
    )


@versioned(router.get, "/models/{name}", responses=PROTOCOL_ASKING)
async def status(request: Request, name: str, version: str | None) -> dict[str, Any]:
    """Which versions answer."""
    number = version_number(version)
    await app_state(request).registry.refresh()
    versions = [entry for entry in app_state(request).registry.versions(name) if number in (None, entry.version)]
    if not versions:
        raise ApiError(HTTPStatus.NOT_FOUND, "unknown_model", f"model {name!r} has no version {number}")
    return {
        "model_version_status": [
            {
                "version": str(entry.version),
                "state": _STATES[entry.state],
                "status": {"error_code": "UNKNOWN" if entry.reason else "OK", "error_message": entry.reason},
            }
            for entry in reversed(versions)
        ]
    }


@versioned(router.get, "/models/{name}", "/metadata", responses=PROTOCOL_ASKING)
async def metadata(request: Request, name: str, version: str | None) -> dict[str, Any]:
    """What the model takes and gives, as a signature."""
    loaded = app_state(request).registry.get(name, version_number(version))
    card = loaded.card
    signature = {
        "inputs": {bundle.INPUT: _tensor("DT_UINT8", [-1, card.height, card.width, 3], bundle.INPUT)},
        "outputs": {bundle.PROBABILITIES: _tensor("DT_FLOAT", [-1, len(card.labels)], bundle.PROBABILITIES)},
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(loaded.version)},
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
    }


def read_images(body: bytes, loaded: LoadedModel, most: int) -> tuple[bool, list[bytes], Pixels | None]:
    """Whether the answer goes by rows, and encoded images or pixels; called on a thread, as parsing takes a while."""
    asked = json_object(body, json_limits.of_images(most, loaded.card.height, loaded.card.width))
    if asked.get("signature_name", "") not in ("", "serving_default"):  # TensorFlow Serving takes empty for this one
        refuse("there is one signature, serving_default")
    if ("instances" in asked) == ("inputs" in asked):
        refuse("give either instances or inputs")
    row_wise = "instances" in asked
    given = asked["instances"] if row_wise else asked["inputs"]
    if not row_wise and isinstance(given, dict) and set(given) == {bundle.INPUT}:
        given = given[bundle.INPUT]
    if isinstance(given, dict) and set(given) == {"b64"}:
        given = [given]
    if not isinstance(given, list) or not given:
        refuse("give a list of images, one or more")
    if len(given) > most:
        refuse(f"the request has {len(given)} images; send {most} at most")
    encoded = [data for data in map(_encoded, given) if data is not None]
    return row_wise, encoded, None if len(encoded) == len(given) else _pixels(given, loaded)


def _encoded(instance: Any) -> bytes | None:
    """The image in `{"b64": ...}` or `{"images": {"b64": ...}}`; None for pixels."""
    if isinstance(instance, dict) and set(instance) == {bundle.INPUT}:
        instance = instance[bundle.INPUT]
    if isinstance(instance, dict):
        if set(instance) != {"b64"} or not isinstance(instance["b64"], str):
            refuse('an instance must be pixels, {"b64": "..."}, or {"images": ...} of either')
        (data,) = from_base64([instance["b64"]])
        return data
    return None


def _pixels(given: list[Any], loaded: LoadedModel) -> Pixels:
    rows = [row[bundle.INPUT] if isinstance(row, dict) and bundle.INPUT in row else row for row in given]
    if any(isinstance(row, dict) for row in rows):
        refuse("send all images as pixels, or all of them encoded")
    card = loaded.card
    return pixels([len(rows), card.height, card.width, 3], rows)


def _tensor(datatype: str, shape: list[int], name: str) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in shape]
    return {"dtype": datatype, "tensor_shape": {"dim": dimensions, "unknown_rank": False}, "name": name}
