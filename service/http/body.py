"""A request's body -> encoded images, within the limits. Three forms: raw, multipart, JSON with base64."""

from __future__ import annotations

import asyncio
import base64
import binascii
import zlib
from contextlib import nullcontext
from functools import lru_cache
from http import HTTPStatus
from typing import Final, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from service.http import json_limits, multipart
from service.http.context import context_of
from service.http.errors import CLIENT_CLOSED_REQUEST, ApiError
from service.http.json_limits import JsonLimits
from service.inference.memory_budget import body_share
from service.schemas import ImageRequest, ImagesRequest
from service.state import app_state

_Model = TypeVar("_Model", bound=BaseModel)

_MOST_KEPT: Final = 256
"""Characters of a content type whose meaning is kept."""
UNHELD: Final = 160 * 2**10
"""Bytes of a body that are read before memory is held for it: a small photograph, or 224 by 224 pixels as a tensor,
never waits for others' bodies."""
_COPIES: Final = 3
"""How often a body that is not the image itself is there while images are taken from it."""
_MARGIN_SECONDS: Final = 0.2
"""By how much the wait for memory ends before the deadline."""

_FORMS: Final = (
    "send the image as the raw body (Content-Type: image/jpeg or application/octet-stream), "
    "as a multipart form with a file, or as JSON with base64"
)


async def body(request: Request, limit: int, seconds: float) -> bytes:
    """A request's whole body, as it was before gzip or deflate.

    Args:
        request: what came.
        limit: bytes that it may have, packed and unpacked.
        seconds: that it may take to come, from the request's head.

    Raises:
        ApiError: 413, as soon as it is known to be longer, and the rest is not read; 408 where it comes too slowly; 400
            where it cannot be unpacked; 499 where the client leaves; 503 where there is no memory for it in time.
    """
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > limit:
        raise _too_large(limit)
    context = context_of(request.scope)
    left = min(context.seconds_left, context.seconds_until(seconds))
    encoding = request.headers.get("content-encoding", "").strip().lower()
    expected = int(said) if said.isdecimal() and encoding in ("", "identity") else limit
    try:
        async with asyncio.timeout(left) if context.body_pending else nullcontext():
            sent, is_held = await _read(request, limit, expected)
    except TimeoutError:
        raise too_slow(seconds) from None
    except ClientDisconnect:
        raise _client_gone() from None
    if encoding in ("", "identity"):
        return sent
    if not is_held and await asyncio.to_thread(_is_large_once_unpacked, sent, encoding):
        await _hold(request, limit)
    return await asyncio.to_thread(_inflated, sent, encoding, limit)


def too_slow(seconds: float) -> ApiError:
    """The refusal of a body that does not come."""
    return ApiError(
        HTTPStatus.REQUEST_TIMEOUT,
        "request_timeout",
        f"the body did not come within {seconds:g} s: send it faster, or raise KERNELSCOPE_TIMEOUT",
    )


async def _read(request: Request, limit: int, expected: int) -> tuple[bytes, bool]:
    """A body of `expected` bytes at most, and whether memory is held for it: where it is much, for all of it."""
    chunks, length, is_held = [], 0, False
    async for chunk in request.stream():
        length += len(chunk)
        if length > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if length > UNHELD and not is_held:
            await _hold(request, expected)
            is_held = True
    return (chunks[0] if len(chunks) == 1 else b"".join(chunks)), is_held


async def _hold(request: Request, size: int) -> None:
    """Wait until there is memory for a body, and hold it as long as the request is answered."""
    context = context_of(request.scope)
    if context.held is None:
        return
    kind = request.headers.get("content-type", "")
    copies = _COPIES if kind.startswith(("application/json", "multipart/")) else 1
    share = app_state(request).image_memory[body_share(size)]
    turn = asyncio.ensure_future(context.held.enter_async_context(share.hold(copies * size)))
    context.pending.add(turn)  # who has left waits for nothing
    try:
        async with asyncio.timeout(context.seconds_left - _MARGIN_SECONDS):
            await turn
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise _client_gone() from None
    except TimeoutError:
        raise ApiError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "overloaded",
            "there was no memory for the body in time: try again in a moment, or raise KERNELSCOPE_IMAGE_MEMORY",
        ) from None
    finally:
        context.pending.discard(turn)


def _client_gone() -> ApiError:
    return ApiError(CLIENT_CLOSED_REQUEST, "client_gone", "the client left before its request was whole")


def _window(encoding: str) -> int:
    """What `zlib.decompressobj` is to be told of an encoding."""
    if encoding not in ("gzip", "deflate"):
        raise ApiError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported_content_encoding",
            f"content encoding {encoding[:40]!r} is not taken: use gzip or deflate",
        )
    return zlib.MAX_WBITS | (16 if encoding == "gzip" else 0)


def _is_large_once_unpacked(data: bytes, encoding: str) -> bool:
    """Whether a body takes more memory, as it was before gzip or deflate, than is given without asking."""
    try:
        return len(zlib.decompressobj(_window(encoding)).decompress(data, UNHELD + 1)) > UNHELD
    except zlib.error:
        return False  # `_inflated` says so


def _inflated(data: bytes, encoding: str, limit: int) -> bytes:
    """The body as it was before gzip or deflate, `limit` bytes at most, however small it travelled."""
    unpack = zlib.decompressobj(_window(encoding))
    try:
        inflated = unpack.decompress(data, limit + 1)
    except zlib.error as error:
        raise ApiError(HTTPStatus.BAD_REQUEST, "invalid_encoding", f"the body is not {encoding}: {error}") from None
    if len(inflated) > limit:
        raise _too_large(limit, " once unpacked")
    if not unpack.eof:
        raise ApiError(HTTPStatus.BAD_REQUEST, "invalid_encoding", f"the {encoding} body is cut short")
    return inflated


def check_kind(content_type: str) -> None:
    """Raise a `ApiError`, 415, for a content type in which no image comes."""
    _kind(content_type)


def image(content_type: str, data: bytes) -> bytes:
    """The one encoded image in a body.

    Args:
        content_type: the header, empty where there is none.
        data: the whole body, as it was before gzip or deflate.

    Raises:
        ApiError: 415 a content type that is not taken, 400 no or several images, or broken JSON.
    """
    kind = _kind(content_type)
    if not data:
        raise ApiError(HTTPStatus.BAD_REQUEST, "empty", f"the body is empty: {_FORMS}")
    if kind == "json":
        return _from_base64(
            _parse(ImageRequest, data, json_limits.of_images(1), '{"image": "<base64>"}').image, "image"
        )
    if kind == "multipart":
        files = _files(content_type, data)
        if len(files) > 1:
            raise ApiError(
                HTTPStatus.BAD_REQUEST,
                "several_images",
                f"the form has {len(files)} files; send one, or all of them to /predict/batch",
            )
        return files[0]
    return data


async def one(request: Request, limit: int, seconds: float) -> bytes:
    """The one encoded image of a request. Raises what `body` and `image` raise."""
    content_type = request.headers.get("content-type", "")
    check_kind(content_type)  # before the body has come
    return image(content_type, await body(request, limit, seconds))


async def several(request: Request, limit: int, seconds: float, most: int) -> list[bytes | ApiError]:
    """The encoded images of a request, in order; a refusal in the place of one whose base64 is broken.

    Raises:
        ApiError: as `one` does; and 413 for more than `most` images.
    """
    content_type = request.headers.get("content-type", "")
    kind, data = _kind(content_type), await body(request, limit, seconds)
    if not data:
        raise ApiError(
            HTTPStatus.BAD_REQUEST, "empty", "the body is empty: send a form with files, or JSON with base64"
        )
    if kind == "multipart":
        files = _files(content_type, data)
        if len(files) > most:
            raise _too_many(len(files), most)
        return list(files)
    if kind == "raw":
        return [data]
    texts = _parse(ImagesRequest, data, json_limits.of_images(most), '{"images": ["<base64>", ...]}').images
    if not texts:
        raise ApiError(HTTPStatus.BAD_REQUEST, "empty", "images is an empty list: send one image or more")
    if len(texts) > most:
        raise _too_many(len(texts), most)
    images: list[bytes | ApiError] = []
    for place, text in enumerate(texts):
        try:
            images.append(_from_base64(text, f"images[{place}]"))
        except ApiError as refusal:
            images.append(refusal)
    return images


def _kind(content_type: str) -> str:
    return (_known_kind if len(content_type) <= _MOST_KEPT else _known_kind.__wrapped__)(content_type)


@lru_cache(256)
def _known_kind(content_type: str) -> str:
    said = content_type.split(";", maxsplit=1)[0].strip().lower()
    if said in ("", "application/octet-stream") or said.startswith("image/"):
        return "raw"
    if said == "multipart/form-data":
        return "multipart"
    if said == "application/json":
        return "json"
    raise ApiError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_content_type", f"{said[:80]!r} is not taken: {_FORMS}"
    )


def _files(content_type: str, data: bytes) -> list[bytes]:
    try:
        files = multipart.files(content_type, data)
    except multipart.FormError as error:
        raise ApiError(HTTPStatus.BAD_REQUEST, "invalid_form", f"the form cannot be read: {error}") from None
    if not files:
        raise ApiError(
            HTTPStatus.BAD_REQUEST, "no_file", "the form has no file: curl -F file=@image.jpg sends one (mind the @)"
        )
    return files


def _parse(model: type[_Model], data: bytes, limits: JsonLimits, shape: str) -> _Model:
    json_limits.check(data, limits)
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        if first["type"] == "json_invalid":
            raise ApiError(HTTPStatus.BAD_REQUEST, "invalid_json", f"the body is not JSON: {first['msg']}") from None
        raise ApiError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid_body",
            f"{where or 'the body'}: {first['msg'].lower()}; expected {shape}",
        ) from None


def _from_base64(text: str, where: str) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return decode_base64(text)
    except ValueError as error:
        raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_base64", f"{where} is not base64: {error}") from None


def decode_base64(text: str) -> bytes:
    """What base64 stands for, which may be broken into lines as MIME and PEM do. Raises `ValueError`."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError(str(error).lower()) from None


def _too_large(limit: int, when: str = "") -> ApiError:
    return ApiError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too_large",
        f"the body is longer than {limit:,} bytes{when}: send a smaller image, or raise KERNELSCOPE_MAX_BODY",
    )


def _too_many(count: int, most: int) -> ApiError:
    return ApiError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too_many_images",
        f"the request has {count} images; send {most} at most, or raise KERNELSCOPE_MAX_IMAGES",
    )
