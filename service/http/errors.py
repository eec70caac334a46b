"""Refusals of a request, and how each becomes a reply: `{"error": {"code", "message"}}`, or its protocol's own."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

from contract.errors import BundleNotFound, ImageError
from contract.network.errors import ExplanationError
from service.explanation.explainer import Busy, ExplanationFailed
from service.http.json_reply import JsonReply
from service.inference.batcher import Overloaded
from service.inference.decode_pool import DecoderLost
from service.inference.decoder import ClientLeft
from service.inference.models_folder import Unavailable
from service.schemas import PARTS

RETRY_SECONDS: Final = 1
OVERLOADED: Final = ("overloaded", "too many images wait for the model: try again in a moment")
"""The code and the message of a refusal for want of room, wherever it is made."""


CLIENT_CLOSED_REQUEST: Final = 499
"""nginx' status for a client that left before there was a reply; nobody receives it, the log shows it."""


class ApiError(Exception):
    """A request that is not answered: an HTTP status, a code for programs, a message for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def reply(path: str, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JsonReply:
    """An error's reply, in the shape of the protocol that `path` belongs to."""
    error = message if f"{path}/".startswith(("/v1/", "/v2/")) else {"code": code, "message": message}
    return JsonReply({"error": error}, status, headers=headers)


def _methods(app: FastAPI, request: Request) -> list[str]:
    """The methods that a request's path takes, in all routes of the same form as the first that has it."""
    included = [getattr(route, "original_router", app.router).routes for route in app.router.routes]
    routes = [route for group in (app.router.routes, *included) for route in group if isinstance(route, Route)]
    matching = [route for route in routes if route.matches(request.scope)[0] is Match.PARTIAL]
    same = [route for route in matching if route.path == matching[0].path]
    return sorted({method for route in same for method in route.methods or ()})


def reply_to(path: str, error: Exception) -> JsonReply | None:
    """The reply to an error of a call, in the shape of the protocol that `path` belongs to; None to a fault of ours."""
    retry = {"Retry-After": str(RETRY_SECONDS)}
    match error:
        case ApiError() | ImageError() | ExplanationError():
            return reply(path, error.status, error.code, str(error))
        case ClientLeft() | ClientDisconnect():
            return reply(path, CLIENT_CLOSED_REQUEST, "client_gone", "the client left")
        case BundleNotFound():
            return reply(path, HTTPStatus.NOT_FOUND, "unknown_model", str(error))
        case Unavailable():
            return reply(path, HTTPStatus.SERVICE_UNAVAILABLE, "models_unavailable", str(error))
        case Overloaded():
            return reply(path, HTTPStatus.SERVICE_UNAVAILABLE, *OVERLOADED, headers=retry)
        case Busy():
            return reply(path, HTTPStatus.SERVICE_UNAVAILABLE, "explanations_busy", str(error), headers=retry)
        case ExplanationFailed():
            return reply(path, HTTPStatus.SERVICE_UNAVAILABLE, "explanation_failed", str(error))
        case DecoderLost():
            return reply(path, HTTPStatus.SERVICE_UNAVAILABLE, "decoder_lost", str(error), headers=retry)
        case _:
            return None


def fault(path: str) -> JsonReply:
    """The reply to a fault of ours, never the client's; the trace is in the log."""
    return reply(path, HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "the service failed; its log says why")


def shutting_down(path: str) -> JsonReply:
    """The reply to a request that has no answer when the time is over that requests get at the end of the service."""
    return reply(
        path,
        HTTPStatus.SERVICE_UNAVAILABLE,
        "shutting_down",
        "the service ends, and there was no answer within the time that was left: ask again",
    )


_ANSWERED: Final = (
    ApiError, ImageError, ExplanationError, ClientLeft, ClientDisconnect, BundleNotFound, Unavailable, Overloaded, Busy,
    ExplanationFailed, DecoderLost,
)  # fmt: skip
"""What `reply_to` has a reply to."""


def install(app: FastAPI) -> None:
    """Let `app` answer every error in this project's shape, and its OpenAPI document say so."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        # FastAPI adds a 422 of its own shape to whatever takes parameters: none is ever sent
        document = made()
        for operation in (described for path in document["paths"].values() for described in path.values()):
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        document["components"]["schemas"].update(PARTS)  # routes that read their bodies by themselves refer to them
        return document

    app.openapi = openapi  # type: ignore[method-assign]

    async def known(request: Request, error: Exception) -> JsonReply:
        return reply_to(request.url.path, error) or fault(request.url.path)

    for kind in _ANSWERED:
        app.add_exception_handler(kind, known)

    @app.exception_handler(RequestValidationError)
    async def parameters(request: Request, error: RequestValidationError) -> JsonReply:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][1:])) or str(first["loc"][0])
        return reply(
            request.url.path,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid_parameter",
            f"{where} is {str(first.get('input'))[:80]!r}: {first['msg'].lower()}",
        )

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JsonReply:
        status = HTTPStatus(error.status_code)
        messages = {
            HTTPStatus.NOT_FOUND: f"there is nothing at {request.url.path}: GET /docs lists what there is",
            HTTPStatus.METHOD_NOT_ALLOWED: f"{request.url.path} does not take {request.method}",
        }
        code = status.phrase.lower().replace(" ", "_")
        headers = dict(error.headers or {})
        if status == HTTPStatus.METHOD_NOT_ALLOWED:  # Starlette names the methods of the first route that has the path
            headers["Allow"] = ", ".join(_methods(app, request))
        return reply(request.url.path, status, code, messages.get(status, str(error.detail)), headers)

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> JsonReply:
        return fault(request.url.path)
