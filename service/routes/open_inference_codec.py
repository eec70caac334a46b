"""An inference request of the Open Inference Protocol V2, as it was sent, and the reply to it.

Source: https://github.com/kserve/open-inference-protocol, and Triton's binary tensor and classification extensions.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from fastapi.responses import Response

from contract import bundle
from contract.preprocessing import Pixels
from service.http.json_limits import JsonLimits
from service.http.json_reply import JsonReply
from service.inference.loaded_model import LoadedModel
from service.inference.submission import Probabilities
from service.routes.tensors import from_base64, from_length_prefixed, json_object, pixels, refuse

HEADER: Final = "inference-header-content-length"
"""The header that says how long the JSON part is, where tensors follow it as bytes."""
_MICROSECONDS: Final = 1e6
_MOST_KEPT: Final = 1024
"""Bytes of a JSON part whose meaning is kept."""
_LARGEST: Final = 2**31 - 1
"""Above any size, and any time in microseconds, that makes sense state."""


@dataclass(frozen=True)
class InferenceRequest:
    """A tensor or encoded images, and how the answer shall look.

    Attributes:
        tensor: uint8 (N, H, W, 3), None where images are encoded.
        encoded: as JPEG, PNG ...
        identity: to be sent back.
        timeout: in seconds, None where the client sets none.
        binary: whether the reply's tensor is bytes behind the JSON part.
        classification: how many classes to name instead of giving all probabilities; 0 for these.
    """

    tensor: Pixels | None
    encoded: list[bytes]
    identity: str | None
    timeout: float | None
    binary: bool
    classification: int


def read(body: bytes, header: str | None, loaded: LoadedModel, limits: JsonLimits) -> InferenceRequest:
    """Parse a whole request, which takes milliseconds where a large tensor is written as JSON.

    Args:
        body: as it was sent, unpacked.
        header: the value of `HEADER`, None where there is none.
        loaded: the model that is asked.
        limits: of its JSON part.

    Raises:
        ApiError: the first thing that is wrong with it.
    """
    if header is None:
        return _from_json(body, b"", loaded, limits, may_be_binary=False)
    if not header.isdecimal() or not header.isascii() or len(header) > 12 or int(header) > len(body):
        refuse(f"{HEADER} is {header[:20]!r}; the body has {len(body)} bytes")
    length = int(header)
    if length == 0:
        return _from_raw(body, loaded)
    return _from_json(body[:length], body[length:], loaded, limits, may_be_binary=True)


def _from_raw(body: bytes, loaded: LoadedModel) -> InferenceRequest:
    """A request that is one input's bytes and nothing else: an encoded image, or as many raw ones as fit."""
    card = loaded.card
    each = card.height * card.width * 3
    options = {"identity": None, "timeout": None, "binary": True, "classification": 0}
    if body and len(body) % each == 0:
        shape = (len(body) // each, card.height, card.width, 3)
        return InferenceRequest(np.frombuffer(body, np.uint8).reshape(shape), [], **options)  # type: ignore[arg-type]
    return InferenceRequest(None, [body], **options)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class _Said:
    """What a request's JSON part says, apart from the data.

    Attributes:
        is_binary: whether the data follow it.
        others: as `InferenceRequest` has them.
    """

    datatype: Any
    shape: tuple[int, ...]
    is_binary: bool
    identity: str | None
    timeout: float | None
    wants_binary: bool
    classification: int


def _from_json(
    text: bytes, binary_parts: bytes, loaded: LoadedModel, limits: JsonLimits, *, may_be_binary: bool
) -> InferenceRequest:
    size, classes = len(binary_parts), len(loaded.card.labels)
    data: Any
    if binary_parts and len(text) <= _MOST_KEPT:
        said, data = _kept(text, size, limits, classes), binary_parts
    else:
        asked = json_object(text, limits)
        said = _said(asked, size, classes)
        data = binary_parts if said.is_binary else asked["inputs"][0]["data"]
    tensor, encoded = _content(said.datatype, list(said.shape), data, loaded)
    wants_binary = may_be_binary and said.wants_binary
    return InferenceRequest(tensor, encoded, said.identity, said.timeout, wants_binary, said.classification)


@lru_cache(256)
def _kept(text: bytes, size: int, limits: JsonLimits, classes: int) -> _Said:
    """As `_said`: a client sends the same JSON part again and again, and only the tensor behind it differs."""
    return _said(json_object(text, limits), size, classes)


def _said(asked: dict[str, Any], size: int, classes: int) -> _Said:
    """What a JSON part says, before `size` bytes of data, to a model of so many classes."""
    inputs = asked.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        refuse(f"inputs must list one tensor, {bundle.INPUT!r}")
    tensor = inputs[0]
    if tensor.get("name") != bundle.INPUT:
        refuse(f"there is no input {str(tensor.get('name'))[:80]!r}: the model takes {bundle.INPUT!r}")
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(_whole(n) and 0 < n <= _LARGEST for n in shape):
        refuse(f"shape must list whole numbers above 0, at most {_LARGEST}")
    said_size = parameters(tensor).get("binary_data_size")
    if said_size is not None and not (_whole(said_size) and said_size == size):
        refuse(f"binary_data_size is {str(said_size)[:20]}; {size} bytes follow the JSON part")
    if said_size is None and size:
        refuse(f"{size} bytes follow the JSON part, and no input's binary_data_size names them")
    if said_size is None and "data" not in tensor:
        refuse("the input has neither data nor binary_data_size")
    wants_binary, classification = _outputs(asked, classes)
    microseconds = parameters(asked).get("timeout")
    if microseconds is not None and not (_whole(microseconds) and microseconds <= _LARGEST):
        refuse(f"timeout must be a whole number of microseconds, at most {_LARGEST}")
    identity = asked.get("id")
    if identity is not None and not (isinstance(identity, str) and identity.isprintable()):
        refuse("id must be a string that can be printed")
    seconds = microseconds / _MICROSECONDS if microseconds else None
    return _Said(
        tensor.get("datatype"),
        tuple(shape),
        said_size is not None,
        identity,
        seconds,
        wants_binary,
        classification,
    )


def _content(datatype: Any, shape: list[int], data: Any, loaded: LoadedModel) -> tuple[Pixels | None, list[bytes]]:
    card = loaded.card
    if datatype == "UINT8":
        if len(shape) != 4 or shape[1:] != [card.height, card.width, 3]:
            refuse(f"shape is {str(shape)[:80]}; the model takes [N, {card.height}, {card.width}, 3]")
        return pixels(shape, data), []
    if datatype == "BYTES":
        if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):
            refuse(f"shape is {str(shape)[:80]}; encoded images have shape [N]")
        encoded = from_length_prefixed(data) if isinstance(data, bytes) else from_base64(data)
        if len(encoded) != shape[0]:
            refuse(f"shape says {shape[0]} images, the data hold {len(encoded)}")
        return None, encoded
    return refuse(f"datatype is {str(datatype)[:40]!r}; send UINT8 pixels, or encoded images as BYTES")


def parameters(holder: dict[str, Any]) -> dict[str, Any]:
    """The object under `parameters`, empty where there is none. Raises `ApiError` for anything else."""
    values = holder.get("parameters")
    if values is None:
        return {}
    if not isinstance(values, dict):
        refuse("parameters must be an object")
    return values


def _whole(value: Any) -> bool:
    """Whether JSON has a whole number there, 0 or above; Python takes true for 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _switch(holder: dict[str, Any], name: str, *, usual: bool) -> bool:
    """A parameter that is true or false; `usual` where it is left out."""
    value = holder.get(name)
    if value is not None and not isinstance(value, bool):
        refuse(f"{name} must be true or false")
    return usual if value is None else value


def _outputs(asked: dict[str, Any], classes: int) -> tuple[bool, int]:
    """Whether the answer shall be binary, and how many classes it shall name instead of giving all probabilities."""
    binary = _switch(parameters(asked), "binary_data_output", usual=False)
    outputs = asked.get("outputs")
    if outputs is None or outputs == []:
        return binary, 0
    if not isinstance(outputs, list) or len(outputs) != 1 or not isinstance(outputs[0], dict):
        refuse(f"outputs must list one tensor, {bundle.PROBABILITIES!r}")
    if outputs[0].get("name") != bundle.PROBABILITIES:
        refuse(f"there is no output {str(outputs[0].get('name'))[:80]!r}: the model gives {bundle.PROBABILITIES!r}")
    wanted = parameters(outputs[0])
    count = wanted.get("classification")
    if count is not None and not (_whole(count) and count <= _LARGEST):
        refuse(f"classification must be a whole number, at most {_LARGEST}")
    return _switch(wanted, "binary_data", usual=binary), min(count or 0, classes)


def reply(loaded: LoadedModel, asked: InferenceRequest, probabilities: Probabilities) -> Response:
    """The answer, float32 (N, classes), in the form that was asked for."""
    flat: list[str] = []
    if asked.classification:
        flat = [text for row in probabilities for text in _classes(loaded, row, asked.classification)]
        datatype, shape = "BYTES", (len(probabilities), asked.classification)
    else:
        datatype, shape = "FP32", probabilities.shape
    if not asked.binary:
        data = flat if asked.classification else np.round(probabilities.astype(float), 8).ravel().tolist()
        output = {"name": bundle.PROBABILITIES, "datatype": datatype, "shape": list(shape), "data": data}
        return JsonReply({**_head(loaded.name, loaded.version, asked.identity), "outputs": [output]})
    if asked.classification:
        binary = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in flat)
    else:
        binary = np.ascontiguousarray(probabilities, "<f4").tobytes()
    make = _binary_head if len(asked.identity or "") <= _MOST_KEPT else _binary_head.__wrapped__
    text = make(loaded.name, loaded.version, asked.identity, datatype, shape, len(binary))
    return Response(
        text + binary,
        media_type="application/octet-stream",
        headers={"Inference-Header-Content-Length": str(len(text))},
    )


@lru_cache(256)
def _binary_head(
    name: str, version: int, identity: str | None, datatype: str, shape: tuple[int, ...], size: int
) -> bytes:
    """The JSON part of a reply, before so many bytes of data; many replies have the same."""
    parameters = {"binary_data_size": size}
    output = {"name": bundle.PROBABILITIES, "datatype": datatype, "shape": list(shape), "parameters": parameters}
    return json.dumps({**_head(name, version, identity), "outputs": [output]}).encode()


def _head(name: str, version: int, identity: str | None) -> dict[str, Any]:
    head = {"model_name": name, "model_version": str(version)}
    return head if identity is None else {**head, "id": identity}


def _classes(loaded: LoadedModel, row: Probabilities, count: int) -> list[str]:
    """The likeliest classes as `probability:index:label`, Triton's form."""
    best = np.argsort(-row, kind="stable")[:count].tolist()
    return [f"{row[index]:.6f}:{index}:{loaded.card.labels[index]}" for index in best]
