"""The application's answers without a server: no port, no socket, the same code.

ASGI (https://asgi.readthedocs.io) is an interface between functions: whoever calls the application with a scope and two
functions is its server.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from starlette.types import ASGIApp, Message

from contract import files
from contract.bundle import Bundle
from contract.cpu import cores
from service import settings
from service.app import create_app, create_state
from service.worker_link import WorkerLink

_TIMEOUT: Final = 600.0
"""Seconds for one call: nobody waits for another one here."""


@dataclass(frozen=True)
class Reply:
    """What a call was answered."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Application:
    """An application whose calls are function calls."""

    app: ASGIApp

    async def call(
        self, method: str, path: str, query: Mapping[str, str], body: bytes = b"", accept: str = "application/json"
    ) -> Reply:
        """One call of the REST interface; `path` begins with a slash."""
        headers = {"accept": accept, "content-type": "application/octet-stream", "content-length": str(len(body))}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": urlencode(query).encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": None,
            "server": None,
            "state": {},
        }
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Message] = []

        async def receive() -> Message:
            if waiting:
                return waiting.pop()
            return await asyncio.Future()  # whoever waits for this client to leave waits in vain

        async def send(message: Message) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        start, *parts = sent
        reply_headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]}
        return Reply(start["status"], reply_headers, b"".join(part.get("body", b"") for part in parts))


@asynccontextmanager
async def application(bundle: Bundle) -> AsyncIterator[Application]:
    """The application with one version of one model, which is loaded and warmed; ended with the block.

    Raises:
        BundleError: the model cannot be served.
    """
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        (models / bundle.card.name).mkdir()
        (models / bundle.card.name / str(bundle.version or 1)).symlink_to(bundle.folder.resolve())
        chosen = settings.load(
            models=models,
            versions="all",
            workers=1,
            threads=cores(),
            timeout=_TIMEOUT,
            watch=0,
            log_requests=False,
            max_body=files.LARGEST,
        )
        state = create_state(chosen, WorkerLink())
        app = create_app(state)
        await state.group.start()
        async with app.router.lifespan_context(app):
            yield Application(app)
