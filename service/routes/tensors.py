"""Tensors as protocols send them: JSON numbers, base64, raw bytes. Everything that is wrong becomes a `ApiError`."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import re
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, Final, NoReturn, TypeVar

import numpy as np
from fastapi import Request

from contract.errors import ImageError
from contract.preprocessing import Pixels
from service.http import json_limits
from service.http.body import decode_base64
from service.http.context import context_of
from service.http.endpoint import AT_ONCE_BYTES
from service.http.errors import ApiError
from service.http.json_limits import JsonLimits
from service.inference.loaded_model import LoadedModel
from service.state import app_state

_Value = TypeVar("_Value")

_PARSER: Final = ThreadPoolExecutor(1, thread_name_prefix="json")
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def refuse(message: str, status: int = HTTPStatus.BAD_REQUEST) -> NoReturn:
    """Raise a `ApiError` that says what is wrong with the request."""
    raise ApiError(status, "invalid_request", message)


def version_number(version: str | None) -> int | None:
    """A version as paths and parameters give it; None where none is given."""
    if version is None:
        return None
    if not version.isdecimal() or not version.isascii() or len(version) > 9:
        refuse(f"version {version[:40]!r} is not a number", HTTPStatus.NOT_FOUND)
    return int(version)


def _no_constants(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def json_object(text: bytes, limits: JsonLimits) -> dict[str, Any]:
    """A JSON object; NaN, infinities, nesting without end and half of a surrogate pair are no JSON."""
    json_limits.check(text, limits)
    try:
        document = _JSON.decode(text.decode(json.detect_encoding(text), "surrogatepass"))
        if _SURROGATE.search(text):
            json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        refuse("the request is not JSON: a string has half of a surrogate pair")
    except (ValueError, RecursionError) as error:
        refuse(f"the request is not JSON: {str(error)[:120]}")
    if not isinstance(document, dict):
        refuse("the request must be a JSON object")
    return document


_JSON: Final = json.JSONDecoder(parse_constant=_no_constants)
"""`json.loads` would make one for each text."""


async def parsed(size: int, parse: Callable[[], _Value]) -> _Value:
    """What `parse` returns: called at once for `AT_ONCE_BYTES` of text or fewer, else on a thread, one after another.

    Parsing does not let go of the interpreter's lock: several at a time would only keep the event loop waiting longer.
    """
    if size <= AT_ONCE_BYTES:
        return parse()
    return await asyncio.get_running_loop().run_in_executor(_PARSER, _without_collector, parse)


def _without_collector(parse: Callable[[], _Value]) -> _Value:
    """What `parse` returns; walking its new lists again and again would take twice as long as making them."""
    gc.disable()
    try:
        return parse()
    finally:
        gc.enable()


def pixels(shape: list[int], data: Any) -> Pixels:
    """uint8 pixels of a shape, from raw bytes or from JSON numbers, flat or nested.

    JSON numbers never reach NumPy as they are: a list with one long string among them would become an array in which
    every element is as long.
    """
    wanted = math.prod(shape)
    if isinstance(data, bytes):
        if len(data) != wanted:
            refuse(f"shape {shape} has {wanted} bytes, the data {len(data)}")
        return np.frombuffer(data, np.uint8).reshape(shape)
    if not isinstance(data, list):
        refuse("data must be a list of whole numbers from 0 to 255, flat or nested as shape says")
    flat = _bytes(data, shape if data and isinstance(data[0], list) else [wanted])
    return np.frombuffer(flat, np.uint8).reshape(shape)


def _bytes(data: Any, shape: list[int]) -> bytes:
    """The numbers in lists nested as a shape says, as bytes."""
    if not isinstance(data, list) or len(data) != shape[0]:
        there = f"{len(data)} values" if isinstance(data, list) else f"a {type(data).__name__}"
        refuse(f"where shape says {shape[0]} values, the data hold {there}")
    if len(shape) > 1:
        return b"".join(_bytes(part, shape[1:]) for part in data)
    try:
        return bytes(data)
    except (TypeError, ValueError):
        refuse("data must hold whole numbers from 0 to 255")


def from_base64(data: Any) -> list[bytes]:
    """Encoded images from a list of base64 strings."""
    flat = (
        [entry[0] if isinstance(entry, list) and len(entry) == 1 else entry for entry in data]
        if isinstance(data, list)
        else []
    )
    if not flat or not all(isinstance(text, str) for text in flat):
        refuse("data must list encoded images as base64 strings")
    try:
        return [decode_base64(text) for text in flat]
    except ValueError as error:
        refuse(f"data must list encoded images as base64 strings: {error}")


def from_length_prefixed(data: bytes) -> list[bytes]:
    """Elements, each after its length as a little-endian 32-bit number."""
    elements, place = [], 0
    while place < len(data):
        if place + 4 > len(data):
            refuse("the binary data end within an element's length")
        (length,) = struct.unpack_from("<I", data, place)
        if place + 4 + length > len(data):
            refuse(f"an element claims {length} bytes; {len(data) - place - 4} are left")
        elements.append(data[place + 4 : place + 4 + length])
        place += 4 + length
    return elements


def undecodable(place: int, error: ImageError) -> ApiError:
    """The refusal of a request whose image at a place cannot be read."""
    return ApiError(error.status, "invalid_request", f"image {place}: {error}")


async def decoded(request: Request, encoded: list[bytes], loaded: LoadedModel) -> Pixels:
    """Encoded images as a model's input, uint8 (N, H, W, 3); one that cannot be read refuses the request."""
    state = app_state(request)
    if len(encoded) > state.settings.max_images:
        refuse(f"the request has {len(encoded)} images; send {state.settings.max_images} at most")
    results = await state.decoder.several(encoded, loaded, context_of(request.scope))
    for place, result in enumerate(results):
        if isinstance(result, ImageError):
            raise undecodable(place, result)
    return np.stack([result for result in results if isinstance(result, np.ndarray)])
