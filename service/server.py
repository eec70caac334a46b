"""uvicorn on a listening socket: the start, how connections are shared, and an orderly end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import FrameType
from typing import Final

import uvicorn

from service import environment, sockets
from service.app import create_app, create_state
from service.http.access_log import Recorder
from service.http.admission import AdmissionControl
from service.http.auth import Gate
from service.http.connection import Connection
from service.http.connection_limits import ConnectionLimits
from service.http.endpoint import Accounts
from service.http.fast_path import FastPath
from service.inference.refusal import Refusal
from service.observability import log_setup, tracing
from service.routes.fast import ROUTES
from service.settings import Settings
from service.state import AppState
from service.worker_link import WorkerLink

log = logging.getLogger("kernelscope")

_SWITCH_SECONDS: Final = 0.001
"""Until a thread that runs Python lets another; the interpreter's default is 0.005."""
_ACCEPT_DELAY: Final = 0.001
"""Seconds between two looks at whether another process with fewer connections has taken one."""
_ACCEPT_PATIENCE: Final = 0.1
"""Seconds that it may take: a few runs on its event loop, where the load's own process has its core as well."""
_LITTLE_PATIENCE: Final = 0.002
"""Seconds that it may take for a while after it has taken longer: it may hang, or be starting."""
_WHILE: Final = 1.0
_MOST_ACCEPTS: Final = 16
"""Connections that are taken in one turn of the event loop, where there is room for all of them."""
_ACCEPT_PAUSE: Final = 0.5
"""Seconds without new connections, when none can be taken."""
_BEAT_SECONDS: Final = 1.0
_LAST_REQUEST_SECONDS: Final = 0.2
"""Until a client that has just connected has sent its request, which would else be met by a close."""

_LAST_REPLY_SECONDS: Final = 1.0
"""Until a request that is cancelled has told its client so."""


class KernelscopeServer(uvicorn.Server):
    """uvicorn, which loads the models first, says where it listens, and is not ready any more before it stops to.

    Args:
        config: uvicorn's.
        state: of the application.
        listening: the socket, which other processes may share.
        link: to these.
        lifeline: a pipe that ends with the supervisor; None where there is none.
        limits: of its connections.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        state: AppState,
        listening: socket.socket,
        link: WorkerLink,
        lifeline: int | None,
        limits: ConnectionLimits | None = None,
    ) -> None:
        super().__init__(config)
        self._limits = limits or ConnectionLimits()
        self._state, self._socket, self._link, self._lifeline = state, listening, link, lifeline
        self._waiting = select.poll()
        self._waiting.register(listening, select.POLLIN)
        self._hesitates_since: float | None = None
        self._little_patience_until = 0.0
        self._arriving = dict[asyncio.Task[None], asyncio.Protocol]()  # connections on their way to their protocol

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Load the models, then take connections. Raises what `WorkerGroup.start` raises."""
        self._loop = asyncio.get_running_loop()
        self._beat()
        await self._state.group.start()
        # what is there now stays: a collector that walks it again and again stalls requests for tens of milliseconds
        gc.collect()
        gc.freeze()
        await super().startup([])
        self._listen(self._loop)
        if self._lifeline is not None:
            self._loop.add_reader(self._lifeline, self._orphaned, self._loop, self._lifeline)
        self._report_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take what has connected already, and no more; finish what was accepted."""
        self._loop.remove_reader(self._socket)
        while self._take(self._loop):
            """Clients whose connection the system has taken would be reset."""
        self._socket.close()
        # whoever has been let in must be among those that are told to end: a client that goes on asking would hold up
        # the end for as long as it may last
        await asyncio.gather(*self._arriving, return_exceptions=True)
        if self._state.settings.drain_delay:
            await asyncio.sleep(_LAST_REQUEST_SECONDS)
        # uvicorn cancels tasks then, and what is answered without one is not its to know
        self._loop.call_later(self._state.settings.drain_timeout, self._end_requests)
        await super().shutdown()
        cancelled = self.server_state.tasks
        if cancelled:  # what is decoded for them is ended first, and then their clients are told
            await asyncio.wait(cancelled, timeout=_LAST_REPLY_SECONDS)
        for connection in list(self.server_state.connections):
            connection.transport.abort()  # its client does not read, and the drain timeout is over

    def _end_requests(self) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection):
                connection.end()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a signal handler, so the loop does the work.

        uvicorn's own would raise the signal once more after an orderly end, and so end with another code than 0.
        """
        self._loop.call_soon_threadsafe(self._drain, sig)

    def _drain(self, sig: int) -> None:
        self.force_exit = self._state.lifecycle.draining and sig == signal.SIGINT
        delay = 0.0 if sig == signal.SIGINT else self._state.settings.drain_delay
        self._state.lifecycle.draining = True
        self._loop.call_later(delay, partial(setattr, self, "should_exit", True))

    def _beat(self) -> None:
        self._link.beat()
        if self._state.lifecycle.ready:
            self._state.group.keep_figures()
        self._loop.call_later(_BEAT_SECONDS, self._beat)

    def _report_ready(self) -> None:
        if self._lifeline is None:
            names = ", ".join(f"{loaded.name} {loaded.version}" for loaded in self._state.registry.all())
            log.info("serving %s on %s (GET /docs lists every call)", names, sockets.url(self._socket))
        else:
            self._link.tell_ready()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._socket.fileno() >= 0:  # not closed meanwhile
            loop.add_reader(self._socket, self._accept, loop)

    def _accept(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take connections, and leave those to another process that has fewer, if it comes for them soon.

        uvicorn's servers take all that wait, so that one process of several may end up with most of the work.
        """
        # where there is little room, a client's request is read before its connection makes room for another
        has_room = self._count() + _MOST_ACCEPTS < self._limits.connections
        for _ in range(_MOST_ACCEPTS if has_room else 1):
            if self._rather_hesitates():
                loop.remove_reader(self._socket)
                loop.call_later(_ACCEPT_DELAY, self._look_again, loop)
                return
            if not self._take(loop):
                return

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._socket.fileno() >= 0 and not self._waiting.poll(0):
            self._hesitates_since = None  # another has taken what waited: the next one is waited for anew
        self._listen(loop)

    def _rather_hesitates(self) -> bool:
        """Whether the next connection is better left to another process."""
        now = time.monotonic()
        if not self._link.has_more_connections(self._count()):
            self._hesitates_since = None
            return False
        if self._hesitates_since is None:
            self._hesitates_since = now
        patience = _LITTLE_PATIENCE if now < self._little_patience_until else _ACCEPT_PATIENCE
        if now - self._hesitates_since <= patience:
            return True
        self._hesitates_since, self._little_patience_until = None, now + _WHILE
        return False

    def _count(self) -> int:
        made = self.server_state.connections
        return len(made) + sum(protocol not in made for protocol in self._arriving.values())

    def _take(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Accept one connection; returns whether there was one."""
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):  # another was faster, or the client has left
            self._hesitates_since = None
            return False
        except OSError as error:  # no more files may be opened: some connections must end first
            log.error("connections cannot be taken: %s", error.strerror)  # noqa: TRY400
            loop.remove_reader(self._socket)
            loop.call_later(_ACCEPT_PAUSE, self._listen, loop)
            return False
        protocol = self._protocol()
        task = loop.create_task(self._connect(loop, protocol, connection))
        self._arriving[task] = protocol
        task.add_done_callback(self._arriving.pop)
        return True

    async def _connect(
        self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol, connection: socket.socket
    ) -> None:
        await loop.connect_accepted_socket(lambda: protocol, connection)

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
        UsageError: the address cannot be listened on, or the default model is not there.
        BundleError: no model can be served.
    """
    log_setup.configure(settings.log_format)
    environment.log_warnings(os.environ, Settings.model_fields)
    with sockets.listen(settings.host, settings.port) as listening:
        try:
            work(settings, listening, WorkerLink())
        finally:
            sockets.remove(settings.host)
    log.info("stopped")
    return 0


def work(
    settings: Settings,
    listening: socket.socket,
    link: WorkerLink,
    lifeline: int | None = None,
    fatal: Mapping[tuple[str, int], Refusal] | None = None,
) -> None:
    """Serve on a socket, alone or as one of a group, until told to end.

    Args:
        settings: with the numbers of processes and threads settled.
        listening: the socket.
        link: to the others on the same socket.
        lifeline: a pipe that ends with the supervisor; None where there is none.
        fatal: versions that ended a process that loaded them.

    Raises:
        UsageError: the default model is not there.
        BundleError: no model can be served.
    """
    state = create_state(settings, link, fatal)
    limits = ConnectionLimits(
        settings.timeout,
        sockets.most_connections(settings.max_connections, settings.workers),
        link.count_connections,
    )
    config = uvicorn.Config(
        create_app(state),
        http=_protocol(settings, state, limits),  # type: ignore[arg-type]  # any callable will do
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=round(settings.drain_timeout),
    )
    # under a load that keeps the event loop busy, the model's thread waits this long for it, twice a batch
    sys.setswitchinterval(_SWITCH_SECONDS)
    KernelscopeServer(config, state, listening, link, lifeline, limits).run()


def _protocol(settings: Settings, state: AppState, limits: ConnectionLimits) -> Callable[..., Connection]:
    """What makes a connection's protocol, with the limits that all of them share."""
    # a page of another origin may read a reply only with the headers that it gets further in
    is_plain = not settings.cors_origins
    recorder = Recorder(state.metrics, settings.log_requests)
    admission = AdmissionControl(state.registry, recorder, state.keys, timeout=settings.timeout) if is_plain else None
    # who is traced, and whose address a proxy tells, is seen to further in
    takes_fast = is_plain and not tracing.is_wanted() and not settings.trusted_proxies
    gate, accounts = Gate(state.keys, state.metrics), Accounts(state.metrics, state.feedback)
    fast = FastPath(ROUTES, state.registry, state.decoder, recorder, gate, accounts, settings)
    return partial(
        Connection,
        recorder=recorder,
        limits=limits,
        admission=admission,
        fast=fast if takes_fast else None,
        prefix=settings.prefix,
    )
