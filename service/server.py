"""A listening socket, uvicorn on it, and an orderly end."""

from __future__ import annotations

import errno
import gc
import logging
import signal
import socket
from types import FrameType

import uvicorn

from contract.errors import UsageError
from service.access import configure_logging
from service.app import create_app
from service.protocol import Protocol
from service.settings import Settings
from service.state import State

log = logging.getLogger("kernelscope")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises `UsageError` where the address is taken or is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"port {port} is taken: choose another with --port or KERNELSCOPE_PORT") from None
        raise UsageError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    return opened


class _Server(uvicorn.Server):
    """uvicorn, which says where it listens, and that it is not ready any more before it stops to."""

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        super().__init__(config)
        self._state = state

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        names = ", ".join(f"{one.name} {one.version}" for one in self._state.registry.all())
        for host, port, *_ in (opened.getsockname() for opened in sockets or ()):
            shown = f"[{host}]" if ":" in host else host
            log.info("serving %s on http://%s:%d (GET /docs says how to ask)", names, shown, port)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn's own would raise the signal once more after an orderly end, and so end with another code than 0
        self._state.draining = True
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; requests in flight are finished first. Returns the exit code.

    Raises:
        UsageError: the address cannot be listened on.
        BundleError: a model cannot be served.
    """
    configure_logging(settings.log_format)
    with listen(settings.host, settings.port) as opened:
        app = create_app(settings)
        state: State = app.state.kernelscope
        config = uvicorn.Config(
            app,
            http=type("Protocol", (Protocol,), {"head_seconds": settings.timeout}),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=round(settings.drain_timeout),
        )
        # what is there now stays: a collector that walks it again and again stalls requests for tens of milliseconds
        gc.collect()
        gc.freeze()
        _Server(config, state).run(sockets=[opened])
    log.info("stopped")
    return 0
