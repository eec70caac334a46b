"""Several processes that serve on one socket: started together, restarted where one dies, ended together.

The supervisor itself is small and loads no model: it forks before anything heavy is imported, and then waits for
signals, one after the other, so that there is nothing to lock. What a process of the crew cannot start with is said
once, by the supervisor.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Final

from contract import repository
from contract.errors import KernelscopeError
from service import sockets, worker_group
from service.observability import log_setup
from service.settings import Settings
from service.worker_group import Crew

log = logging.getLogger("kernelscope")

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, worker_group.READY)
_BREATH: Final = 1.0
"""Seconds between two starts of a process that dies again and again."""
_GRACE: Final = 5.0
"""Seconds beyond the drain timeout after which a process is ended by force."""


def serve(settings: Settings) -> int:
    """Serve with `settings.workers` processes until SIGTERM or SIGINT. Returns the exit code.

    Raises:
        KernelscopeError: what one of them cannot start with; none is left then.
    """
    log_setup.configure(settings.log_format)
    folder = Path(tempfile.mkdtemp(prefix="kernelscope-"))
    with sockets.listen(settings.host, settings.port) as opened:
        try:
            return _Supervisor(settings, opened, folder).run()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class _Supervisor:
    def __init__(self, settings: Settings, opened: socket.socket, folder: Path) -> None:
        self._settings, self._socket, self._folder = settings, opened, folder
        self._pids: dict[int, int] = {}  # of each number
        self._due: dict[int, float] = {}  # when a number is to be started again
        self._started: dict[int, float] = {}
        self._lifeline = os.pipe()  # its writing end closes with the supervisor, however that ends
        self._serving = False

    def run(self) -> int:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            for number in range(self._settings.workers):
                self._start(number)
            return self._watch()
        finally:
            self._kill(signal.SIGKILL)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _watch(self) -> int:
        while True:
            number = self._next_signal(min(self._due.values(), default=None))
            if number in (signal.SIGTERM, signal.SIGINT):
                return self._end()
            if number == signal.SIGHUP:
                self._kill(signal.SIGHUP)
            if number == signal.SIGCHLD:
                for crew_number, status in self._reap():
                    self._mourn(crew_number, status)
            if number == worker_group.READY and not self._serving and all(map(self._is_ready, self._pids)):
                self._serving = True
                names = ", ".join(repository.models(self._settings.models))
                where, count = sockets.url(self._socket), self._settings.workers
                log.info("serving %s on %s (GET /docs says how to ask) with %d processes", names, where, count)
            for crew_number in [one for one, when in self._due.items() if when <= time.monotonic()]:
                del self._due[crew_number]
                self._start(crew_number)

    def _next_signal(self, until: float | None) -> int | None:
        if until is None:
            return signal.sigwait(_SIGNALS)
        found = signal.sigtimedwait(_SIGNALS, max(0.0, until - time.monotonic()))
        return found.si_signo if found else None

    def _start(self, number: int) -> None:
        worker_group.place(self._folder, number).unlink(missing_ok=True)
        self._started[number] = time.monotonic()
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            _work(self._settings, self._socket, Crew(self._folder, number, self._settings.workers), self._lifeline)
        self._pids[number] = pid

    def _is_ready(self, number: int) -> bool:
        return worker_group.place(self._folder, number).exists()

    def _reap(self) -> list[tuple[int, int]]:
        """Numbers and exit codes of those that have ended."""
        ended = []
        for number, pid in list(self._pids.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                del self._pids[number]
                for left in self._folder.glob(f"gauge_live*_{pid}.db"):  # its gauges end with it, its counts stay
                    left.unlink()
                ended.append((number, os.waitstatus_to_exitcode(status)))
        return ended

    def _mourn(self, number: int, code: int) -> None:
        if not self._serving:  # what one cannot start with, none can
            self._end()
            said = self._folder / "error"
            if said.exists():
                error: KernelscopeError = pickle.loads(said.read_bytes())  # noqa: S301 -- our own process wrote it
                raise error
            raise KernelscopeError(f"a process ended with {code} before it served: the log says why")
        log.error("process %d of %d ended with %d: starting it anew", number + 1, self._settings.workers, code)
        self._due[number] = max(time.monotonic(), self._started[number] + _BREATH)

    def _end(self) -> int:
        """Ask all to end, wait for them; returns 0, or 1 where one had to be killed."""
        self._kill(signal.SIGTERM)
        until = time.monotonic() + self._settings.drain_timeout + _GRACE
        while self._pids:
            number = self._next_signal(until)
            if number is None:
                log.error("%d processes did not end in time and are killed", len(self._pids))
                self._kill(signal.SIGKILL)
                return 1
            if number == signal.SIGINT:  # a second Ctrl-C does not wait for requests
                self._kill(signal.SIGINT)
            self._reap()
        log.info("stopped")
        return 0

    def _kill(self, number: signal.Signals) -> None:
        for pid in self._pids.values():
            os.kill(pid, number)  # it is there: ended children are kept until they are reaped


def _work(settings: Settings, opened: socket.socket, link: Crew, lifeline: tuple[int, int]) -> None:
    """What a forked process does. Never returns: what its parent has on the stack is not its own."""
    code, supervisor = 1, os.getppid()
    try:
        os.close(lifeline[1])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        # before prometheus_client is imported: it decides there and then to keep its figures in files
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(link.folder)
        from service import server

        code = server.work(settings, opened, link, lifeline[0])
    except KernelscopeError as error:
        said = link.folder / f"error-{link.number}" if link.folder else Path(os.devnull)
        said.write_bytes(pickle.dumps(error))
        said.replace(said.with_name("error"))
    except BaseException:
        traceback.print_exc()
    finally:
        if link.folder and os.getppid() != supervisor:  # it was killed: nobody else would clear up
            shutil.rmtree(link.folder, ignore_errors=True)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
