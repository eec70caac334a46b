"""Keys: who may ask, and who may load and unload models. Compared in constant time."""

from __future__ import annotations

import hmac
from http import HTTPStatus

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.http.errors import ApiError, reply
from service.settings import Settings

_OPEN = ("/health", "/metrics", "/v2/health")
"""What probes and scrapers ask needs no key."""
_PAGE = ("/", "/docs")
_PAGE_FILES = "/web/"
"""The page itself needs no key: it asks the person for the one that its calls need."""


def sent(headers: Headers) -> str:
    """The key that came with a request: `Authorization: Bearer KEY`, or `X-API-Key: KEY`; else empty."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def _is_open(path: str) -> bool:
    return path in _PAGE or path.startswith((*_OPEN, _PAGE_FILES))


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode(), right.encode())


def require_admin(request: Request, settings: Settings) -> None:
    """Raise a `ApiError` unless the request came with the admin key: 401, or 403 where there is none."""
    if not settings.admin_key:
        raise ApiError(
            HTTPStatus.FORBIDDEN, "no_admin_key", "models are not loaded on request here: set KERNELSCOPE_ADMIN_KEY"
        )
    if not _same(sent(request.headers), settings.admin_key):
        raise ApiError(HTTPStatus.UNAUTHORIZED, "wrong_key", "this call takes the admin key: Authorization: Bearer KEY")


class ApiKeys:
    """ASGI middleware that lets through what came with one of the keys; there only where keys are set."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._keys = [key.strip() for key in f"{settings.api_keys},{settings.admin_key}".split(",") if key.strip()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or answer 401."""
        if scope["type"] == "http" and not _is_open(scope["path"]):
            key = sent(Headers(scope=scope))
            # every key is compared, so that the time says nothing of which one was near
            if not sum(_same(key, one) for one in self._keys):
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
