"""Tensors as protocols send them: JSON numbers, base64, raw bytes. Everything that is wrong becomes a `ApiError`."""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
import zlib
from http import HTTPStatus
from typing import Any, NoReturn

import numpy as np

from contract.errors import ImageError
from contract.preprocessing import Pixels
from service.http.errors import ApiError
from service.inference.loaded_model import LoadedModel
from service.state import AppState


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


def inflated(body: bytes, encoding: str, limit: int) -> bytes:
    """The body as it was before gzip or deflate, `limit` bytes at most, however small it travelled."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        refuse(f"content encoding {encoding[:40]!r} is not taken: use gzip or deflate")
    unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | (16 if encoding == "gzip" else 0))
    try:
        data = unpack.decompress(body, limit + 1)
    except zlib.error as error:
        refuse(f"the body is not {encoding}: {error}")
    if len(data) > limit:
        refuse(f"the body is longer than {limit:,} bytes once unpacked", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    if not unpack.eof:
        refuse(f"the {encoding} body is cut short")
    return data


def _no_constants(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def json_object(text: bytes) -> dict[str, Any]:
    """A JSON object; NaN, infinities and nesting without end are no JSON."""
    try:
        found = json.loads(text, parse_constant=_no_constants)
    except (ValueError, RecursionError) as error:
        refuse(f"the request is not JSON: {str(error)[:120]}")
    if not isinstance(found, dict):
        refuse("the request must be a JSON object")
    return found


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
        [one[0] if isinstance(one, list) and len(one) == 1 else one for one in data] if isinstance(data, list) else []
    )
    if not flat or not all(isinstance(one, str) for one in flat):
        refuse("data must list encoded images as base64 strings")
    try:
        return [base64.b64decode(one, validate=True) for one in flat]
    except (binascii.Error, ValueError) as error:
        refuse(f"data must list encoded images as base64 strings: {str(error).lower()}")


def from_length_prefixed(data: bytes) -> list[bytes]:
    """Elements, each after its length as a little-endian 32-bit number."""
    found, place = [], 0
    while place < len(data):
        if place + 4 > len(data):
            refuse("the binary data end within an element's length")
        (length,) = struct.unpack_from("<I", data, place)
        if place + 4 + length > len(data):
            refuse(f"an element claims {length} bytes; {len(data) - place - 4} are left")
        found.append(data[place + 4 : place + 4 + length])
        place += 4 + length
    return found


async def decoded(state: AppState, encoded: list[bytes], loaded: LoadedModel) -> Pixels:
    """Encoded images as a model's input, uint8 (N, H, W, 3); one that cannot be read refuses the request."""
    if len(encoded) > state.settings.max_images:
        refuse(f"the request has {len(encoded)} images; send {state.settings.max_images} at most")
    results = await state.decoder.several(encoded, loaded)
    for place, result in enumerate(results):
        if isinstance(result, ImageError):
            refuse(f"image {place}: {result}", result.status)
    return np.stack([result for result in results if isinstance(result, np.ndarray)])
