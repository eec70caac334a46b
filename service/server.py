"""uvicorn on a listening socket, and an orderly end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn

from service import sockets
from service.app import create_app
from service.http.connection import Protocol
from service.observability import log_setup
from service.settings import Settings
from service.state import State
from service.worker_group import READY, Crew

log = logging.getLogger("kernelscope")

_SWITCH = 0.001
"""Seconds until a thread that runs Python lets another; the interpreter's default is 0.005."""
_MOMENT = 0.001
"""Seconds that a process leaves a connection to another that has fewer."""
_PAUSE = 0.5
"""Seconds without new connections, when none can be taken."""


class _Server(uvicorn.Server):
    """uvicorn, which says where it listens, and that it is not ready any more before it stops to."""

    def __init__(self, config: uvicorn.Config, state: State, opened: socket.socket, lifeline: int | None) -> None:
        super().__init__(config)
        self._state, self._socket, self._lifeline = state, opened, lifeline
        self._hesitated = False
        self._arriving = set[asyncio.Task[None]]()  # connections on their way to their protocol

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        loop = asyncio.get_running_loop()
        self._listen(loop)
        if self._lifeline is not None:
            loop.add_reader(self._lifeline, self._orphaned, loop, self._lifeline)
        self._say()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        # whoever has been let in must be among those that are told to end: a client that goes on asking would hold up
        # the end for as long as it may last
        await asyncio.gather(*self._arriving, return_exceptions=True)
        await super().shutdown()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn's own would raise the signal once more after an orderly end, and so end with another code than 0
        self._state.draining = True
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    def _say(self) -> None:
        if self._lifeline is None:
            names = ", ".join(f"{one.name} {one.version}" for one in self._state.registry.all())
            log.info("serving %s on %s (GET /docs says how to ask)", names, sockets.url(self._socket))
        else:
            os.kill(os.getppid(), READY)

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._socket.fileno() >= 0:  # not closed meanwhile
            loop.add_reader(self._socket, self._accept, loop)

    def _accept(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take one connection, and leave the next to whoever of the crew is free first, or has fewer.

        uvicorn's servers take all that wait, so that one process of several may end up with most of the work.
        """
        if not self._hesitated and self._state.crew.has_most(len(self.server_state.connections)):
            self._hesitated = True  # once, and for as long as another takes to wake up: it may hang
            loop.remove_reader(self._socket)
            loop.call_later(_MOMENT, self._listen, loop)
            return
        self._hesitated = False
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):  # another was faster, or the client has left
            return
        except OSError as error:  # no more files may be opened: some connections must end first
            log.error("connections cannot be taken: %s", error.strerror)  # noqa: TRY400
            loop.remove_reader(self._socket)
            loop.call_later(_PAUSE, self._listen, loop)
            return
        task = loop.create_task(self._connect(loop, connection))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _connect(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def _orphaned(self, loop: asyncio.AbstractEventLoop, lifeline: int) -> None:
        loop.remove_reader(lifeline)
        log.error("the supervisor has died: ending")
        self.handle_exit(signal.SIGTERM, None)


def serve(settings: Settings) -> int:
    """Serve with this one process until SIGTERM or SIGINT, and finish what is in flight. Returns the exit code.

    Raises:
        UsageError: the address cannot be listened on.
        BundleError: a model cannot be served.
    """
    log_setup.configure(settings.log_format)
    with sockets.listen(settings.host, settings.port) as opened:
        code = work(settings, opened, Crew())
    log.info("stopped")
    return code


def work(settings: Settings, opened: socket.socket, crew: Crew, lifeline: int | None = None) -> int:
    """Serve on a socket, alone or as one of a crew.

    Args:
        settings: with the numbers of processes and threads settled.
        opened: listens.
        crew: the others on the same socket.
        lifeline: a pipe that ends with the supervisor; None where there is none.

    Raises:
        BundleError: a model cannot be served.
    """
    app = create_app(settings, crew)
    state: State = app.state.kernelscope
    # a page of another origin may read a refusal only with the headers that it gets further in
    door = None if settings.cors_origins else state
    config = uvicorn.Config(
        app,
        http=type("Protocol", (Protocol,), {"head_seconds": settings.timeout, "door": door}),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=round(settings.drain_timeout),
    )
    # what is there now stays: a collector that walks it again and again stalls requests for tens of milliseconds
    gc.collect()
    gc.freeze()
    # under a load that keeps the event loop busy, the model's thread waits this long for it, twice a batch
    sys.setswitchinterval(_SWITCH)
    _Server(config, state, opened, lifeline).run()
    return 0
