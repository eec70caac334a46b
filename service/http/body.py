"""A request's body -> encoded images, within the limits. Three forms: raw, multipart, JSON with base64."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Final, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.http.errors import ApiError
from service.schemas import ImageRequest, ImagesRequest

_Model = TypeVar("_Model", bound=BaseModel)

_MOST_PARTS: Final = 4096
"""Files in a form that are parsed at all: enough to say how many there are, and no room for mischief."""

_FORMS: Final = (
    "send the image as the raw body (Content-Type: image/jpeg or application/octet-stream), "
    "as a multipart form with a file, or as JSON with base64"
)


async def body(request: Request, limit: int) -> bytes:
    """A request's whole body.

    Raises:
        ApiError: 413, as soon as it is known to be longer than `limit` bytes; the rest is not read.
    """
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > limit:
        raise _too_large(limit)
    chunks, length = [], 0
    async for chunk in request.stream():
        length += len(chunk)
        if length > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def one(request: Request, limit: int) -> bytes:
    """The one encoded image of a request.

    Raises:
        ApiError: 413 too large, 415 a content type that is not taken, 400 no or several images, or broken JSON.
    """
    kind, data = _kind(request), await body(request, limit)
    if not data:
        raise ApiError(HTTPStatus.BAD_REQUEST, "empty", f"the body is empty: {_FORMS}")
    if kind == "json":
        return _from_base64(_parse(ImageRequest, data, '{"image": "<base64>"}').image, "image")
    if kind == "multipart":
        files = await _files(request, data)
        if len(files) > 1:
            raise ApiError(
                HTTPStatus.BAD_REQUEST,
                "several_images",
                f"the form has {len(files)} files; send one, or all of them to /predict/batch",
            )
        return files[0]
    return data


async def several(request: Request, limit: int, most: int) -> list[bytes | ApiError]:
    """The encoded images of a request, in order; a refusal in the place of one whose base64 is broken.

    Raises:
        ApiError: as `one` does; and 413 for more than `most` images.
    """
    kind, data = _kind(request), await body(request, limit)
    if not data:
        raise ApiError(
            HTTPStatus.BAD_REQUEST, "empty", "the body is empty: send a form with files, or JSON with base64"
        )
    if kind == "multipart":
        files = await _files(request, data)
        if len(files) > most:
            raise _too_many(len(files), most)
        return list(files)
    if kind == "raw":
        return [data]
    texts = _parse(ImagesRequest, data, '{"images": ["<base64>", ...]}').images
    if not texts:
        raise ApiError(HTTPStatus.BAD_REQUEST, "empty", "images is an empty list: send one image or more")
    if len(texts) > most:
        raise _too_many(len(texts), most)
    found: list[bytes | ApiError] = []
    for place, text in enumerate(texts):
        try:
            found.append(_from_base64(text, f"images[{place}]"))
        except ApiError as refusal:
            found.append(refusal)
    return found


def _kind(request: Request) -> str:
    said = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if said in ("", "application/octet-stream") or said.startswith("image/"):
        return "raw"
    if said == "multipart/form-data":
        return "multipart"
    if said == "application/json":
        return "json"
    raise ApiError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_content_type", f"{said[:80]!r} is not taken: {_FORMS}"
    )


async def _files(request: Request, data: bytes) -> list[bytes]:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield data

    try:
        parser = MultiPartParser(request.headers, stream(), max_files=_MOST_PARTS, max_fields=_MOST_PARTS)
        form = await parser.parse()
    except MultiPartException as error:
        raise ApiError(HTTPStatus.BAD_REQUEST, "invalid_form", f"the form cannot be read: {error.message}") from None
    except Exception as error:  # the parser's own errors for a broken boundary or header
        raise ApiError(HTTPStatus.BAD_REQUEST, "invalid_form", f"the form cannot be read: {error}") from None
    try:
        files = [await value.read() for _, value in form.multi_items() if isinstance(value, UploadFile)]
    finally:
        await form.close()
    if not files:
        raise ApiError(
            HTTPStatus.BAD_REQUEST, "no_file", "the form has no file: curl -F file=@image.jpg sends one (mind the @)"
        )
    return files


def _parse(model: type[_Model], data: bytes, shape: str) -> _Model:
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
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_base64", f"{where} is not base64: {str(error).lower()}"
        ) from None


def _too_large(limit: int) -> ApiError:
    return ApiError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too_large",
        f"the body is longer than {limit:,} bytes: send a smaller image, or raise KERNELSCOPE_MAX_BODY",
    )


def _too_many(count: int, most: int) -> ApiError:
    return ApiError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too_many_images",
        f"the request has {count} images; send {most} at most, or raise KERNELSCOPE_MAX_IMAGES",
    )
