"""An inference request of the Open Inference Protocol V2, as it was sent, and the reply to it.

Source: https://github.com/kserve/open-inference-protocol, and Triton's binary tensor and classification extensions.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from fastapi.responses import Response

from contract import bundle
from contract.preprocessing import Pixels
from service.http.json_limits import JsonLimits
from service.http.json_reply import JsonReply
from service.inference.batcher import Probabilities
from service.inference.loaded_model import LoadedModel
from service.routes.tensors import from_base64, from_length_prefixed, json_object, pixels, refuse

HEADER: Final = "inference-header-content-length"
"""The header that says how long the JSON part is, where tensors follow it as bytes."""
_MICROSECONDS: Final = 1e6
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
        return _from_json(json_object(body, limits), b"", loaded, binary=False)
    if not header.isdecimal() or not header.isascii() or len(header) > 12 or int(header) > len(body):
        refuse(f"{HEADER} is {header[:20]!r}; the body has {len(body)} bytes")
    length = int(header)
    if length == 0:
        return _from_raw(body, loaded)
    return _from_json(json_object(body[:length], limits), body[length:], loaded, binary=True)


def _from_raw(body: bytes, loaded: LoadedModel) -> InferenceRequest:
    """A request that is one input's bytes and nothing else: an encoded image, or as many raw ones as fit."""
    card = loaded.card
    each = card.height * card.width * 3
    options = {"identity": None, "timeout": None, "binary": True, "classification": 0}
    if body and len(body) % each == 0:
        shape = (len(body) // each, card.height, card.width, 3)
        return InferenceRequest(np.frombuffer(body, np.uint8).reshape(shape), [], **options)  # type: ignore[arg-type]
    return InferenceRequest(None, [body], **options)  # type: ignore[arg-type]


def _from_json(asked: dict[str, Any], binary_parts: bytes, loaded: LoadedModel, *, binary: bool) -> InferenceRequest:
    inputs = asked.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        refuse(f"inputs must list one tensor, {bundle.INPUT!r}")
    tensor = inputs[0]
    if tensor.get("name") != bundle.INPUT:
        refuse(f"there is no input {str(tensor.get('name'))[:80]!r}: the model takes {bundle.INPUT!r}")
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(_whole(n) and 0 < n <= _LARGEST for n in shape):
        refuse(f"shape must list whole numbers above 0, at most {_LARGEST}")
    size = parameters(tensor).get("binary_data_size")
    if size is not None and not (_whole(size) and size == len(binary_parts)):
        refuse(f"binary_data_size is {str(size)[:20]}; {len(binary_parts)} bytes follow the JSON part")
    if size is None and binary_parts:
        refuse(f"{len(binary_parts)} bytes follow the JSON part, and no input's binary_data_size names them")
    if size is None and "data" not in tensor:
        refuse("the input has neither data nor binary_data_size")
    data = binary_parts if size is not None else tensor["data"]
    tensor_pixels, encoded = _content(tensor.get("datatype"), shape, data, loaded)
    wants_binary, classification = _outputs(asked, loaded)
    microseconds = parameters(asked).get("timeout")
    if microseconds is not None and not (_whole(microseconds) and microseconds <= _LARGEST):
        refuse(f"timeout must be a whole number of microseconds, at most {_LARGEST}")
    identity = asked.get("id")
    if identity is not None and not (isinstance(identity, str) and identity.isprintable()):
        refuse("id must be a string that can be printed")
    return InferenceRequest(
        tensor_pixels,
        encoded,
        identity,
        microseconds / _MICROSECONDS if microseconds else None,
        binary and wants_binary,
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
    found = holder.get("parameters")
    if found is None:
        return {}
    if not isinstance(found, dict):
        refuse("parameters must be an object")
    return found


def _whole(value: Any) -> bool:
    """Whether JSON has a whole number there, 0 or above; Python takes true for 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _switch(holder: dict[str, Any], name: str, *, usual: bool) -> bool:
    """A parameter that is true or false; `usual` where it is left out."""
    found = holder.get(name)
    if found is not None and not isinstance(found, bool):
        refuse(f"{name} must be true or false")
    return usual if found is None else found


def _outputs(asked: dict[str, Any], loaded: LoadedModel) -> tuple[bool, int]:
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
    return _switch(wanted, "binary_data", usual=binary), min(count or 0, len(loaded.card.labels))


def reply(loaded: LoadedModel, asked: InferenceRequest, probabilities: Probabilities) -> Response:
    """The answer, float32 (N, classes), in the form that was asked for."""
    output: dict[str, Any] = {"name": bundle.PROBABILITIES}
    if asked.classification:
        texts = [_classes(loaded, row, asked.classification) for row in probabilities]
        output |= {"datatype": "BYTES", "shape": [len(texts), asked.classification]}
        flat = [text for row in texts for text in row]
        binary = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in flat)
    else:
        output |= {"datatype": "FP32", "shape": list(probabilities.shape)}
        binary = np.ascontiguousarray(probabilities, "<f4").tobytes()
    head: dict[str, Any] = {"model_name": loaded.name, "model_version": str(loaded.version)}
    if asked.identity is not None:
        head["id"] = asked.identity
    if not asked.binary:
        data = flat if asked.classification else np.round(probabilities.astype(float), 8).ravel().tolist()
        return JsonReply({**head, "outputs": [{**output, "data": data}]})
    text = json.dumps({**head, "outputs": [{**output, "parameters": {"binary_data_size": len(binary)}}]}).encode()
    return Response(
        text + binary,
        media_type="application/octet-stream",
        headers={"Inference-Header-Content-Length": str(len(text))},
    )


def _classes(loaded: LoadedModel, row: Probabilities, count: int) -> list[str]:
    """The likeliest classes as `probability:index:label`, Triton's form."""
    best = np.argsort(-row, kind="stable")[:count].tolist()
    return [f"{row[index]:.6f}:{index}:{loaded.card.labels[index]}" for index in best]
