"""Several processes that serve on one socket: started together, restarted where one dies or hangs, ended together.

The supervisor imports what the processes need, once: they share that memory, and one that is replaced has no imports
to wait for. It loads no model and starts no thread, for a process that is forked has only the one that forks; it waits
for signals, one after the other, so that there is nothing to lock. The first process loads the models first; where that
ends it, what it was loading is not loaded again, and the others never try it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import Final

from contract import repository
from contract.errors import KernelscopeError
from service import environment, server, sockets, worker_link
from service.inference.refusal import Refusal, how_it_ended
from service.observability import log_setup
from service.observability.captured_output import OutputPipe
from service.settings import Settings
from service.worker_link import SharedMemory, WorkerLink

log = logging.getLogger("kernelscope")

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, worker_link.READY)
_RESTART_BACKOFF: Final = 1.0
"""Seconds between two starts of a process that ends soon, doubled each time."""
_LONGEST_BACKOFF: Final = 30.0
_LIVED_SECONDS: Final = 60.0
"""A process that ends after this long is not one that ends again and again."""
DRAIN_GRACE: Final = 5.0
"""Seconds beyond the drain timeout after which a process is ended by force."""
_HANG_SECONDS: Final = 20.0
"""A process whose event loop has not run for so long is ended by force, and replaced."""
_LOOK_SECONDS: Final = 2.0
"""Between two looks at whether all are alive."""


def serve(settings: Settings) -> int:
    """Serve with `settings.workers` processes until SIGTERM or SIGINT. Returns the exit code.

    Raises:
        KernelscopeError: what they cannot start with; none is left then.
    """
    log_setup.configure(settings.log_format, threaded=False)
    environment.log_warnings(os.environ, Settings.model_fields)
    with sockets.listen(settings.host, settings.port) as listening:
        try:
            return _Supervisor(settings, listening).run()
        finally:
            sockets.remove(settings.host)


@dataclass(frozen=True)
class _Pipes:
    """A process' ends of its pipes to the supervisor.

    Attributes:
        lifeline: read from; it ends when the supervisor does.
        leader_serves: read from; it ends once the first process serves.
        errors: written to: what the process could not start with.
        output: what the process prints goes into it; None where that goes where the supervisor's does.
    """

    lifeline: int
    leader_serves: int
    errors: int
    output: OutputPipe | None


class _Supervisor:
    def __init__(self, settings: Settings, listening: socket.socket) -> None:
        self._settings, self._socket = settings, listening
        self._memory = SharedMemory(settings.workers)
        self._links = worker_link.sockets(settings.workers)
        self._fatal: dict[tuple[str, int], Refusal] = {}
        self._pids: dict[int, int] = {}  # of each number
        self._errors: dict[int, int] = {}  # of each number, a pipe with what it could not start with
        self._outputs: dict[int, OutputPipe] = {}  # of each number, what it has printed and nobody has read
        self._due: dict[int, float] = {}  # when a number is to be started again
        self._started: dict[int, float] = {}
        self._backoff: dict[int, float] = {}
        self._lifeline = os.pipe()  # its writing end closes with the supervisor, however that ends
        self._leader_serves = os.pipe()  # its writing end closes once the first process serves
        self._may_follow = False
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
            for link in self._links:
                link.close()

    def _watch(self) -> int:
        while True:
            number = self._next_signal(min([time.monotonic() + _LOOK_SECONDS, *self._due.values()]))
            if number in (signal.SIGTERM, signal.SIGINT):
                return self._end(number)
            if number == signal.SIGHUP:
                self._kill(signal.SIGHUP)
            self._reap_and_restart()
            if number == worker_link.READY:
                self._on_ready()
            self._end_what_hangs()
            for worker in [worker for worker, when in self._due.items() if when <= time.monotonic()]:
                del self._due[worker]
                self._start(worker)

    def _next_signal(self, until: float) -> int | None:
        received = signal.sigtimedwait(_SIGNALS, max(0.0, until - time.monotonic()))
        return received.si_signo if received else None

    def _start(self, number: int) -> None:
        self._started[number] = time.monotonic()
        self._memory.heartbeats[number] = self._memory.ready[number] = 0
        self._memory.loading[number].write(b"")
        reading, writing = os.pipe()
        output = OutputPipe() if log_setup.is_json(self._settings.log_format) else None
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if not pid:
            try:  # nothing that the parent has on its stack may run here
                os.close(self._lifeline[1])
                if not self._may_follow:
                    os.close(self._leader_serves[1])
                link = WorkerLink(number, self._links, self._memory)
                pipes = _Pipes(self._lifeline[0], self._leader_serves[0], writing, output)
                _work(self._settings, self._socket, link, pipes, self._fatal)
            finally:
                os._exit(1)
        os.close(writing)
        if output:
            output.keep_reading_end()
            self._outputs[number] = output
        self._pids[number], self._errors[number] = pid, reading

    def _on_ready(self) -> None:
        ready = self._memory.ready
        if ready[0] and not self._may_follow:
            self._may_follow = True
            os.close(self._leader_serves[1])
        if not self._serving and ready.all():
            self._serving = True
            names = ", ".join(repository.models(self._settings.models))
            where, count = sockets.url(self._socket), self._settings.workers
            processes = "1 process" if count == 1 else f"{count} processes"
            log.info("serving %s on %s (GET /docs lists every call) with %s", names, where, processes)

    def _reap(self) -> list[tuple[int, int]]:
        """Numbers and exit codes of those that have ended."""
        ended = []
        for number, pid in list(self._pids.items()):
            child, status = os.waitpid(pid, os.WNOHANG)
            if child:
                del self._pids[number]
                if number in self._outputs:
                    self._outputs.pop(number).read_rest()
                ended.append((number, os.waitstatus_to_exitcode(status)))
        return ended

    def _reap_and_restart(self) -> None:
        for number, code in self._reap():
            self._on_worker_exit(number, code)

    def _on_worker_exit(self, number: int, code: int) -> None:
        error = self._error_of(number)
        loading = worker_link.loading_of(self._memory, number)
        if loading and not error:
            self._remember(loading, code)
        elif not self._serving:  # what one cannot start with, none can
            self._end(signal.SIGTERM)
            raise error or KernelscopeError(f"a process ended with {code} before it served: the log says why")
        lived = time.monotonic() - self._started[number]
        backoff = _RESTART_BACKOFF if lived > _LIVED_SECONDS else self._backoff.get(number, _RESTART_BACKOFF)
        self._backoff[number] = min(2 * backoff, _LONGEST_BACKOFF)
        self._due[number] = max(time.monotonic(), self._started[number] + backoff)
        why = f": {error}" if error else ""
        log.error("process %d of %d ended with %d: starting it anew%s", number + 1, self._settings.workers, code, why)

    def _error_of(self, number: int) -> KernelscopeError | None:
        """What a process that has ended said that it could not start with."""
        with os.fdopen(self._errors.pop(number), "rb") as pipe:
            said = pipe.read()
        error: KernelscopeError | None = pickle.loads(said) if said else None  # noqa: S301 -- of a process of our own
        return error

    def _remember(self, loading: worker_link.Loading, code: int) -> None:
        """A version has ended the process that loaded it: it is not loaded again until its files change."""
        fingerprint = None
        with contextlib.suppress(OSError):  # it is gone, and so will not be loaded
            fingerprint = repository.fingerprint(self._settings.models / loading.name / str(loading.version))
        reason = how_it_ended(f"{loading.name} {loading.version}", code)
        if self._is_slow(loading):
            reason = (
                f"{loading.name} {loading.version} is not loaded and warmed within {self._settings.load_timeout:g} s "
                "(KERNELSCOPE_LOAD_TIMEOUT)"
            )
        self._fatal[loading.name, loading.version] = Refusal(reason, fingerprint)
        log.error("%s %d is refused: %s", loading.name, loading.version, reason)

    def _is_slow(self, loading: worker_link.Loading) -> bool:
        return time.monotonic() - loading.since > self._settings.load_timeout

    def _end_what_hangs(self) -> None:
        """End processes whose event loop stands still, or that load a model for too long; their exit does the rest."""
        for number, pid in self._pids.items():
            loading = worker_link.loading_of(self._memory, number)
            beat = self._memory.heartbeats[number]
            if beat and time.monotonic() - beat > _HANG_SECONDS:
                log.error("process %d does not answer any more and is killed", number + 1)
                os.kill(pid, signal.SIGKILL)
            elif loading and self._is_slow(loading):
                os.kill(pid, signal.SIGKILL)

    def _end(self, number: int) -> int:
        """Ask all to end, wait for them; returns 0, or 1 where one had to be killed."""
        self._socket.close()  # the processes have their own, and each takes what has connected before it closes that
        self._kill(signal.Signals(number))
        delay = 0.0 if number == signal.SIGINT else self._settings.drain_delay
        until = time.monotonic() + delay + self._settings.drain_timeout + DRAIN_GRACE
        while self._pids:
            received = self._next_signal(until)
            self._reap()
            if received in (signal.SIGINT, signal.SIGTERM):  # a second Ctrl-C does not wait for requests
                self._kill(signal.SIGINT)
            if time.monotonic() >= until and self._pids:
                log.error("%d processes did not end in time and are killed", len(self._pids))
                self._kill(signal.SIGKILL)
                return 1
        log.info("stopped")
        return 0

    def _kill(self, number: signal.Signals) -> None:
        for pid in self._pids.values():
            os.kill(pid, number)  # it is there: ended children are kept until they are reaped


def _work(
    settings: Settings,
    listening: socket.socket,
    link: WorkerLink,
    pipes: _Pipes,
    fatal: dict[tuple[str, int], Refusal],
) -> None:
    """What a forked process does; never returns."""
    code, capture = 1, None
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something that can look for new versions
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        capture = pipes.output.capture() if pipes.output else None
        log_setup.configure(settings.log_format, descriptor=capture.output if capture else None)
        if capture:
            capture.start()
        if not link.is_leader:
            os.read(pipes.leader_serves, 1)  # nothing is ever written: it returns once the other end is closed
        server.work(settings, listening, link, pipes.lifeline, fatal)
        code = 0
    except KernelscopeError as error:
        os.write(pipes.errors, pickle.dumps(error))
    except BaseException as error:  # whatever it is, the process is at its end
        log.critical("a process ends: %s", error, exc_info=error)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if capture:
            capture.end()
        log_setup.close()
        os._exit(code)
