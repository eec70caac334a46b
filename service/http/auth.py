"""Who may ask, and who may load models: by keys of the settings, and by named ones in a file that is read again."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import numpy as np
from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from contract.errors import UsageError
from service.http import key_file
from service.http.context import RequestContext, context_of
from service.http.errors import ApiError, reply
from service.http.json_reply import JsonReply
from service.http.key_file import NamedKey, digest_of
from service.http.rate_limit import SLOTS, RateLimit, Times
from service.observability.metrics import Metrics
from service.settings import Settings

log = logging.getLogger("kernelscope")

READ_SECONDS: Final = 2.0
"""Between looks whether the file of keys is another."""
_OPEN: Final = frozenset(
    (
        # what probes and scrapers ask
        *("/health", "/health/live", "/health/ready", "/metrics", "/v2/health/live", "/v2/health/ready"),
        # the page, which asks the person for the key that its calls need
        *("/", "/docs"),
    )
)
"""Paths that take no key: these and no longer ones."""
_PAGE_FILES: Final = "/web/"

_UNNAMED: Final = NamedKey("api_keys")
"""What metrics call the keys of KERNELSCOPE_API_KEYS."""
_ADMIN: Final = NamedKey("admin_key", is_admin=True)

_Stamp = tuple[int, int, int]
"""Of a file: inode, time and size."""


class ApiKeys:
    """The keys of which a request must send one; where none are set, every request may come in.

    A key is looked up by its digest, so that the time that takes says nothing of which one was near.

    Args:
        settings: with the keys, and the file of named ones.
        times: float64 (SLOTS,), shared by all processes, for limits; this process' own where None.

    Raises:
        UsageError: the file cannot be read, or is not as it should be.
    """

    def __init__(self, settings: Settings, times: Times | None = None) -> None:
        self._file = settings.api_keys_file
        unnamed = [key.strip() for key in settings.api_keys.split(",")] if settings.api_keys else []
        self._set = {digest_of(key.encode()): _UNNAMED for key in unnamed}
        self.is_required = bool(unnamed) or self._file is not None
        """Whether a request must send a key at all."""
        if settings.admin_key:
            self._set[digest_of(settings.admin_key.encode())] = _ADMIN
        self._limit = RateLimit(np.zeros(SLOTS) if times is None else times)
        self._stamp: _Stamp | None = None
        self._keys = dict(self._set)
        if self._file is not None:
            self._take_up(self._file, _stamp(self._file))

    @property
    def has_admin(self) -> bool:
        """Whether there is a key with which models are loaded and unloaded."""
        return any(key.is_admin for key in self._keys.values())

    def find(self, headers: Iterable[tuple[bytes, bytes]]) -> NamedKey | None:
        """Whose key came with a request; None where it has none, or none that is known.

        Args:
            headers: with names in lower case.
        """
        return self._keys.get(digest_of(sent(headers)))

    def allow(self, path: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request may come in.

        Args:
            path: as the routes see it, with nothing escaped.
            headers: with names in lower case.
        """
        return not self.is_required or is_open(path) or self.find(headers) is not None

    def wait(self, key: NamedKey) -> float:
        """Count a request of a key; 0 where it may be answered, else the seconds after which one may."""
        return 0.0 if key.rate is None else self._limit.take(key.name, key.rate, key.burst)

    def reread(self) -> bool:
        """Take up the file if it is another than before; may block.

        Returns:
            Whether the keys are others now.

        Raises:
            UsageError: it cannot be read; the keys stay as they were.
        """
        if self._file is None or (stamp := _stamp(self._file)) == self._stamp:
            return False
        self._take_up(self._file, stamp)
        return True

    def _take_up(self, file: Path, stamp: _Stamp | None) -> None:
        self._stamp = stamp  # a file that is wrong is complained of once
        named = key_file.read(file)
        self._limit.assign(key.name for key in named.values())
        self._keys = {**named, **self._set}


async def follow(keys: ApiKeys, metrics: Metrics) -> None:
    """Take up the file of keys whenever it is another, for as long as the application lives."""
    while True:
        await asyncio.sleep(READ_SECONDS)
        try:
            if await asyncio.to_thread(keys.reread):
                log.info("the API keys were read again")
        except UsageError as error:  # who has a key goes on with it
            metrics.key_file_errors.inc()
            log.error("%s; the keys stay as they were", error)  # noqa: TRY400


def is_open(path: str) -> bool:
    """Whether a path takes no key."""
    return path in _OPEN or path.startswith(_PAGE_FILES)


def sent(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The key that came with a request: `Authorization: Bearer KEY`, or `X-API-Key: KEY`; else empty."""
    key = b""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer":
                return token.strip()
        elif name == b"x-api-key" and not key:
            key = value
    return key


def require_admin(request: Request, keys: ApiKeys) -> None:
    """Raise a `ApiError` unless the request came with an admin key: 401, or 403 where there is none."""
    if not keys.has_admin:
        raise ApiError(
            HTTPStatus.FORBIDDEN, "no_admin_key", "models are not loaded on request here: set KERNELSCOPE_ADMIN_KEY"
        )
    key = keys.find(request.headers.raw)
    if key is None or not key.is_admin:
        raise ApiError(HTTPStatus.UNAUTHORIZED, "wrong_key", "this call takes the admin key: Authorization: Bearer KEY")


@dataclass(frozen=True, slots=True)
class Gate:
    """Lets through what came with one of the keys, and within its limit.

    Attributes:
        keys: the keys.
        metrics: told of the requests of each.
    """

    keys: ApiKeys
    metrics: Metrics

    def check(self, path: str, headers: Iterable[tuple[bytes, bytes]], context: RequestContext) -> JsonReply | None:
        """Why a request may not come in, 401 or 429; None where it may, and its context knows the key from then on.

        Args:
            path: as the routes see it, with nothing escaped.
            headers: with names in lower case.
            context: of the request. One that has been let in before is not counted again.
        """
        if not self.keys.is_required or context.key or is_open(path):
            return None
        key = self.keys.find(headers)
        if key is None:
            return reply(
                path,
                HTTPStatus.UNAUTHORIZED,
                "wrong_key",
                "a key is needed here: Authorization: Bearer KEY, or X-API-Key: KEY",
                {"WWW-Authenticate": "Bearer"},
            )
        context.key = key.name
        self.metrics.key_requests.labels(key.name).inc()
        wait = self.keys.wait(key)
        if not wait:
            return None
        self.metrics.key_limited.labels(key.name).inc()
        return reply(
            path,
            HTTPStatus.TOO_MANY_REQUESTS,
            "too_many_requests",
            f"{key.name} may send {key.rate:g} requests a second: try again after Retry-After",
            {"Retry-After": str(math.ceil(wait))},
        )


class Authentication:
    """`Gate` as ASGI middleware."""

    def __init__(self, app: ASGIApp, keys: ApiKeys, metrics: Metrics) -> None:
        self._app, self._gate = app, Gate(keys, metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or answer 401 or 429."""
        answer: ASGIApp = self._app
        if scope["type"] == "http":
            answer = self._gate.check(scope["path"], scope["headers"], context_of(scope)) or self._app
        await answer(scope, receive, send)


def _stamp(file: Path) -> _Stamp | None:
    """What tells a file from the one before; None where there is none. A link that is turned elsewhere counts."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
