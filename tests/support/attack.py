"""Attacks on a server, and what another client sees meanwhile."""

from __future__ import annotations

import collections
import http.client
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support import probe
from tests.support.group import workers as children
from tests.support.mutation import Bodies, Body
from tests.support.probe import LIVE, PHOTO, READY, Probe
from tests.support.processes import memory, watching_memory, watching_others
from tests.support.server import Server
from tests.support.waiting import eventually

PHOTO_SECONDS, LIVE_SECONDS = 2.0, 0.4
"""Within which another client's photograph and liveness are answered during an attack."""
IDLE = 0.15
"""Where other processes have more of the processors than that, there is more time, in proportion to what is left."""
MOST_GROWTH, MOST_LEFT = 250_000_000, 100_000_000
"""Bytes a worker during an attack, and afterwards."""
CALM_SECONDS = 1.0
RECOVERY_SECONDS = 15.0
_TIMEOUT = 10.0


class Target:
    """What an attacker knows of a server, and the connections that it has opened.

    Attributes:
        stop: set when the attack is to end.
        outcomes: how often each status came; 0 where there was no reply.
    """

    def __init__(self, server: Server, bodies: Bodies) -> None:
        host, port = server.url.removeprefix("http://").split(":")
        self.address, self.bodies = (host, int(port)), bodies
        self.stop, self.outcomes = threading.Event(), collections.Counter[int]()
        self._opened: set[socket.socket] = set()

    def connect(self) -> socket.socket:
        """A connection of its own."""
        connection = socket.create_connection(self.address, timeout=_TIMEOUT)
        self._opened.add(connection)
        return connection

    def close(self, connection: socket.socket) -> None:
        """Leave."""
        self._opened.discard(connection)
        connection.close()

    def post(self, body: Body) -> tuple[int, bytes]:
        """Send a body on a connection of its own; status 0 where no reply came."""
        client = http.client.HTTPConnection(*self.address, timeout=_TIMEOUT)
        status, reply = 0, b""
        try:
            client.sock = self.connect()
            client.request("POST", body.path, body.content, dict(body.headers))
            answer = client.getresponse()
            status, reply = answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            pass
        finally:
            self._opened.discard(client.sock)
            client.close()
        if not self.stop.is_set():  # `end` takes replies away
            self.outcomes[status] += 1
        return status, reply

    def end(self) -> None:
        """Stop, and leave on every connection."""
        self.stop.set()
        for connection in list(self._opened):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        name: what is sent.
        kind: what it is an example of.
        begin: prepares the attack, and returns what makes one attempt: each thread calls that again and again, with its
            own number.
        threads: how many attack at once.
        is_variant: whether it is of the same kind as one of the list, and not in it.
        key: that clients of the server must send, and the attacker does not; none if empty.
        allowed: statuses that the attacker may get; by default all but 5xx other than 503.
    """

    name: str
    kind: str
    begin: Callable[[Target], Callable[[int], object]]
    threads: int = 8
    is_variant: bool = False
    key: str = ""
    allowed: frozenset[int] = frozenset({0, *range(200, 500), 503})

    @property
    def environment(self) -> dict[str, str]:
        """Settings of the server that is attacked; where keys are needed, a stranger must not see a short queue."""
        return {"KERNELSCOPE_API_KEYS": self.key, "KERNELSCOPE_MAX_QUEUE": "1"} if self.key else {}


@dataclass
class Report:
    """What was seen during an attack."""

    attack: Attack
    workers: int
    seconds: float
    attempts: int
    outcomes: dict[int, int]
    probe: Probe
    began: float
    ended: float
    others: float  # share of the machine that other processes had meanwhile
    memory: tuple[int, int, int]  # before, at most, afterwards
    pids_changed: bool
    recovered: bool
    exit_code: int | None  # None: it did not end
    log: list[str]

    def faults(self) -> list[str]:
        """What another client should not have seen; empty where all is well."""
        found = []
        times = 1 / max(1 - self.others, 0.05) if self.others > IDLE else 1.0
        for kind, bound in ((PHOTO, PHOTO_SECONDS), (LIVE, LIVE_SECONDS)):
            allowed = bound * times
            said = f"{allowed:.2f} s"
            if times > 1:
                calm = max((reply.seconds for reply in self.probe.of(kind, until=self.began)), default=0.0)
                said += f" (others had {self.others:.0%} of the machine; before the attack {calm:.2f} s)"
            replies = self.probe.of(kind, self.began, self.ended)
            wrong = [reply for reply in replies if reply.status != 200]
            late = [reply for reply in replies if reply.seconds > allowed]
            if wrong:
                found.append(
                    f"{kind}: {len(wrong)} of {len(replies)} not 200, such as {wrong[0].status} {wrong[0].said}"
                )
            if late:
                worst = max(reply.seconds for reply in late)
                found.append(f"{kind}: {len(late)} of {len(replies)} took longer than {said}, up to {worst:.2f} s")
            if not replies:
                found.append(f"{kind}: no reply")
        labels = {reply.said for reply in self.probe.of(PHOTO) if reply.status == 200}
        if len(labels) > 1:
            found.append(f"photo: different answers, {sorted(labels)}")
        if lie := self._lie():
            found.append(lie)
        before, most, after = self.memory
        for word, size, limit in (("during", most, MOST_GROWTH), ("after", after, MOST_LEFT)):
            if (growth := (size - before) / self.workers) > limit:
                found.append(
                    f"memory: {growth / 1e6:.0f} MB a worker more {word} the attack; {limit / 1e6:.0f} at most"
                )
        if self.pids_changed:
            found.append("a worker has ended")
        if not self.recovered:
            found.append(f"not ready, or no photograph answered, {RECOVERY_SECONDS:g} s after the attack")
        if self.exit_code != 0:
            found.append(f"SIGTERM: exit code {self.exit_code}" if self.exit_code is not None else "SIGTERM: no end")
        if bad := {status: count for status, count in self.outcomes.items() if status not in self.attack.allowed}:
            found.append(f"attackers got {bad}")
        return found + self._faults_of_the_log()

    def _faults_of_the_log(self) -> list[str]:
        found, lines, plain = [], [], 0
        for text in self.log:
            try:
                lines.append(json.loads(text))
            except ValueError:
                plain += 1
        if plain:
            found.append(f"log: {plain} lines are not JSON")
        traces = [text for text in map(json.dumps, lines) if "Traceback" in text]
        if traces:
            found.append(f"log: {len(traces)} tracebacks, one of them: {traces[0][-1500:]}")
        if errors := sum(line.get("status", 0) >= 500 and line["status"] != 503 for line in lines):
            found.append(f"log: {errors} requests answered with 5xx")
        return found

    def _lie(self) -> str:
        """Where readiness says that photographs are answered and they are not."""
        for reply in self.probe.of(PHOTO, self.began, self.ended):
            until = reply.asked + reply.seconds
            ready = [one for one in self.probe.of(READY, reply.asked, until + 1) if one.status == 200]
            if reply.status in (0, 503) and ready:
                return f"readiness: 200 while a photograph got {reply.status}"
        return ""

    def line(self) -> str:
        """One row of a table: attack, attempts, result."""
        faults = self.faults()
        busy = f", others {self.others:.0%}" if self.others > IDLE else ""
        growth = f"{self.growth / 1e6:+.0f} MB a worker"
        seen = f"photo {self.worst(PHOTO):.2f} s, live {self.worst(LIVE):.2f} s, {growth}{busy}"
        result = "; ".join(faults) if faults else "survived"
        return f"| {self.attack.name} | {self.attempts:,} in {self.seconds:.0f} s | {result} | {seen} |"

    def worst(self, kind: str) -> float:
        """Seconds of the slowest reply to another client."""
        return max((reply.seconds for reply in self.probe.of(kind, self.began, self.ended)), default=float("nan"))

    @property
    def growth(self) -> float:
        """Bytes a worker, at most."""
        return (self.memory[1] - self.memory[0]) / self.workers


def bodies_of(server: Server) -> Bodies:
    """Bodies for every operation of a server's OpenAPI document."""
    document = server.client.get("/openapi.json").json()
    model = server.client.get("/models").json()["models"][0]
    return Bodies(document, model["name"], str(model["version"]), (model["height"], model["width"]))


def carry_out(attack: Attack, server: Server, photograph: Path, seconds: float, *, workers: int) -> Report:
    """Attack a server for a while, then end it."""
    target = Target(server, bodies_of(server))
    attempt, attempts = attack.begin(target), collections.Counter[int]()

    def work(number: int) -> None:
        while not target.stop.is_set():
            attempts[number] += 1
            try:
                attempt(number)
            except OSError:
                target.outcomes[0] += not target.stop.is_set()

    pids = children(server)
    with probe.probing(server.url, photograph, attack.key) as seen:
        eventually(lambda: {reply.kind for reply in list(seen.replies)} == {PHOTO, LIVE, READY})
        seen.replies.clear()  # the first ones warm it
        target.stop.wait(CALM_SECONDS)
        before = memory(server.process.pid)
        began = time.monotonic()
        with watching_memory(server) as peak, watching_others() as others:
            threads = [threading.Thread(target=work, args=(number,)) for number in range(attack.threads)]
            for thread in threads:
                thread.start()
            target.stop.wait(seconds)
            ended = time.monotonic()
            target.end()
            for thread in threads:
                thread.join()
            recovered = _within(RECOVERY_SECONDS, lambda: _is_well(seen, ended))
            _within(RECOVERY_SECONDS, lambda: memory(server.process.pid) < before + workers * MOST_LEFT)
        left = memory(server.process.pid)
    changed = children(server) != pids
    return Report(
        attack, workers, seconds, attempts.total(), dict(target.outcomes), seen, began, ended, others.share,
        (before, max(peak.size, before), left), changed, recovered, _end(server), server.lines,
    )  # fmt: skip


def _is_well(seen: Probe, since: float) -> bool:
    """Whether the last photograph was answered, and the last look at readiness was good."""
    last = [seen.of(kind, since)[-1:] for kind in (PHOTO, READY)]
    return all(replies and replies[0].status == 200 for replies in last)


def _within(seconds: float, look: Callable[[], bool]) -> bool:
    try:
        return eventually(look, seconds=seconds)
    except AssertionError:
        return False


def _end(server: Server) -> int | None:
    try:
        return server.end()
    except subprocess.TimeoutExpired:
        return None
