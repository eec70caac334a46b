"""Keys: who may ask, and who may load and unload models. Compared in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.http.errors import ApiError, reply
from service.settings import Settings

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


class ApiKeys:
    """The keys of which a request must send one; where none are set, every request may come in.

    Args:
        settings: with the keys, which are of printable ASCII characters.
    """

    def __init__(self, settings: Settings) -> None:
        keys = [key.strip() for key in settings.api_keys.split(",")] if settings.api_keys else []
        self._keys = [key.encode() for key in (*keys, settings.admin_key) if key] if keys else []

    def allow(self, path: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request may come in.

        Args:
            path: as the routes see it, with nothing escaped.
            headers: with names in lower case.
        """
        if not self._keys or path in _OPEN or path.startswith(_PAGE_FILES):
            return True
        key = sent(headers)
        # every key is compared, so that the time says nothing of which one was near
        return bool(sum(hmac.compare_digest(key, known) for known in self._keys))


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


def require_admin(request: Request, settings: Settings) -> None:
    """Raise a `ApiError` unless the request came with the admin key: 401, or 403 where there is none."""
    if not settings.admin_key:
        raise ApiError(
            HTTPStatus.FORBIDDEN, "no_admin_key", "models are not loaded on request here: set KERNELSCOPE_ADMIN_KEY"
        )
    if not hmac.compare_digest(sent(request.headers.raw), settings.admin_key.encode()):
        raise ApiError(HTTPStatus.UNAUTHORIZED, "wrong_key", "this call takes the admin key: Authorization: Bearer KEY")


class Authentication:
    """ASGI middleware that lets through what came with one of the keys."""

    def __init__(self, app: ASGIApp, keys: ApiKeys) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or answer 401."""
        if scope["type"] == "http" and not self._keys.allow(scope["path"], scope["headers"]):
            refused = reply(
                scope["path"],
                HTTPStatus.UNAUTHORIZED,
                "wrong_key",
                "a key is needed here: Authorization: Bearer KEY, or X-API-Key: KEY",
                {"WWW-Authenticate": "Bearer"},
            )
            await refused(scope, receive, send)
            return
        await self._app(scope, receive, send)
