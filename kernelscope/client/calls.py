"""What is sent: the requests of all calls, and how several images become requests."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from kernelscope.client.errors import ClientError, ImageRejected

ImageLike = str | os.PathLike[str] | bytes
"""A path, or an encoded image."""

TIMEOUT: Final = 30.0
"""Seconds that a call may take."""
BATCH: Final = 32
"""Images of one request."""
BATCH_BYTES: Final = 8 * 2**20
"""Bytes of images in one request; a single image may have more."""
MOST_IN_FLIGHT: Final = 4
"""Requests of several images that are under way at once."""
_LONGEST_TIMEOUT: Final = 3600.0
"""Seconds: what the service takes at most."""
_TOO_MANY: Final = frozenset({"too_many_images", "too_large"})
"""What a service says to several images of which fewer may fit."""


@dataclass(frozen=True)
class Call:
    """A request.

    Attributes:
        method, path: of the request.
        parameters: of the query, but for the deadline.
        content: the body; empty for none.
        files: images, as a form.
        has_deadline: whether the service takes a deadline with it.
    """

    method: str
    path: str
    parameters: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    files: tuple[bytes, ...] = ()
    has_deadline: bool = False

    def keywords(self, seconds: float) -> dict[str, Any]:
        """What httpx' `request` takes, where so many seconds are left."""
        parameters = dict(self.parameters)
        if self.has_deadline:
            parameters["timeout"] = f"{max(seconds, 0.001):.3f}"
        words: dict[str, Any] = {"method": self.method, "url": self.path, "params": parameters, "timeout": seconds}
        if self.files:
            words["files"] = [("file", (str(number), data)) for number, data in enumerate(self.files)]
        elif self.content:
            words |= {"content": self.content, "headers": {"Content-Type": "application/octet-stream"}}
        return words


def base(url: str, api_key: str | None) -> dict[str, Any]:
    """What httpx' clients take: the address and the key.

    Raises:
        ClientError: one of them cannot be used.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ClientError(f"{url!r} is no address of a service: give one such as http://localhost:8000")
    if api_key is not None and not (api_key.isascii() and api_key.isprintable() and api_key and " " not in api_key):
        raise ClientError("the API key must be printable ASCII without blanks")
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return {"base_url": url, "headers": headers}


def check_timeout(seconds: float) -> float:
    """Return a timeout that the service takes. Raises `ClientError`."""
    if not 0 < seconds <= _LONGEST_TIMEOUT:
        raise ClientError(f"the timeout is {seconds:g} s; it must lie above 0 and be at most {_LONGEST_TIMEOUT:g}")
    return seconds


def predict(image: ImageLike, model: str | None, version: int | None, top_k: int | None) -> Call:
    """`POST /predict`."""
    return Call("POST", "/predict", _query(model, version, top_k), read(image), has_deadline=True)


def predict_batch(images: Sequence[bytes], model: str | None, version: int | None, top_k: int | None) -> Call:
    """`POST /predict/batch`."""
    return Call("POST", "/predict/batch", _query(model, version, top_k), files=tuple(images), has_deadline=True)


def explain(image: ImageLike, model: str | None, version: int | None, options: dict[str, Any]) -> Call:
    """`POST /explain`."""
    more = {name: str(value) for name, value in options.items() if value is not None}
    return Call("POST", "/explain", _query(model, version, None) | more, read(image), has_deadline=True)


def models() -> Call:
    """`GET /models`."""
    return Call("GET", "/models")


def card(name: str) -> Call:
    """`GET /models/{name}`."""
    return Call("GET", f"/models/{quote(name, safe='')}")


def health() -> Call:
    """`GET /health`."""
    return Call("GET", "/health")


def read(image: ImageLike) -> bytes:
    """The bytes of an image.

    Raises:
        OSError: its file cannot be read.
        TypeError: it is neither a path nor bytes.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | os.PathLike):
        return Path(image).read_bytes()
    raise TypeError(f"an image is a path or bytes, not {type(image).__name__}")


def in_batches(images: Iterable[ImageLike], size: int) -> Iterator[list[bytes]]:
    """Images in requests of at most `size`, and of `BATCH_BYTES` where there are several.

    Raises:
        ClientError: `size` is below 1.
    """
    if size < 1:
        raise ClientError(f"a batch of {size} images is none: give 1 or more")
    held: list[bytes] = []
    total = 0
    for image in images:
        data = read(image)
        if held and (len(held) == size or total + len(data) > BATCH_BYTES):
            yield held
            held, total = [], 0
        held.append(data)
        total += len(data)
    if held:
        yield held


def halves(images: Sequence[bytes], error: ImageRejected) -> list[Sequence[bytes]]:
    """The two halves of images that were too many for one request. Raises `error` where that is not what it says."""
    if len(images) < 2 or error.code not in _TOO_MANY:
        raise error
    middle = len(images) // 2
    return [images[:middle], images[middle:]]


def _query(model: str | None, version: int | None, top_k: int | None) -> dict[str, str]:
    given = {"model": model, "version": version, "top_k": top_k}
    return {name: str(value) for name, value in given.items() if value is not None}
