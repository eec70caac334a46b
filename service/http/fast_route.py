"""The short way to an endpoint, for requests that leave everything to the defaults: nothing stands in their query.

FastAPI matches a request against its routes, solves its dependencies and validates its parameters; for a small model
that takes longer than the run (docs/performance.md). Where there are no parameters there is nothing to solve, and the
endpoint is called as it is: the very function that FastAPI would have called, so that the two ways cannot differ.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send


class FastRoute(BaseRoute):
    """Stands before FastAPI's own route of the same path, and lets pass what has a query.

    Args:
        path: the route's path, without parameters.
        endpoint: what FastAPI calls for a POST to it; all its parameters but the request have defaults.
    """

    def __init__(self, path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> None:
        self.path = self.path_format = path
        self._endpoint = endpoint
        self._match = Match.FULL, {"route": self}

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether this route takes the request."""
        takes = (
            scope["type"] == "http"
            and scope["path"] == self.path
            and scope["method"] == "POST"
            and not scope["query_string"]
        )
        return self._match if takes else (Match.NONE, {})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer it."""
        reply = await self._endpoint(Request(scope, receive, send))
        await reply(scope, receive, send)
