"""The fast path: a request of which the body is small is answered by its connection, without FastAPI.

What it does is what the route does, for both follow the same `Endpoint`. It waits for the model, and for the decoding
of one image: whatever else shows itself on the way, the request goes to the route as if nothing had been done.
docs/performance.md says what this is worth.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Protocol

from starlette.responses import Response

from contract.errors import ImageError
from contract.preprocessing import Pixels
from service.http import errors
from service.http.access_log import CLIENT_GONE, Recorder, identify
from service.http.auth import Gate
from service.http.body import UNHELD
from service.http.context import RequestContext
from service.http.endpoint import AT_ONCE_BYTES, Accounts, Asked, Endpoint, deadline_exceeded
from service.http.wire import written
from service.inference.batcher import Overloaded
from service.inference.decoder import Decoder
from service.inference.loaded_model import LoadedModel
from service.inference.registry import Registry
from service.inference.submission import OutOfTime, Probabilities, Submission
from service.settings import Settings

log = logging.getLogger("kernelscope")

_LONGEST_URL: Final = 256
_PARAMETERS: Final = {"{name}": rb"(?P<name>[A-Za-z0-9._-]+)", "{version}": rb"(?P<version>[0-9]{1,9})"}
"""What stands in a path without being escaped; all else is FastAPI's to look at."""


@dataclass(frozen=True, slots=True)
class Route:
    """A path that is answered on the fast path.

    Attributes:
        template: the path, with {name} and {version} for parameters.
        endpoint: its steps.
    """

    template: str
    endpoint: Endpoint

    def pattern(self) -> re.Pattern[bytes]:
        """What matches its paths."""
        parts = re.split(r"(\{name\}|\{version\})", self.template)
        return re.compile(b"".join(_PARAMETERS.get(part) or re.escape(part.encode()) for part in parts))


@dataclass(frozen=True, slots=True)
class Match:
    """A request's path, understood.

    Attributes:
        route: what it is to.
        name, version: of the model that is asked; the default one, the newest where None.
    """

    route: Route
    name: str | None
    version: int | None


@dataclass(slots=True)
class Arriving:
    """A request for the fast path, of which the body comes.

    Attributes:
        match: its path.
        headers: with names in lower case.
        context: what is known of it.
        body: what has come.
        patience: when the rest is not waited for any more, and FastAPI's route waits; None where all has come at once.
    """

    match: Match
    headers: list[tuple[bytes, bytes]]
    context: RequestContext
    body: list[bytes] = field(default_factory=list)
    patience: asyncio.TimerHandle | None = None


class Connection(Protocol):
    """What a call needs of its connection."""

    client: Any

    def send_reply(self, reply: bytes, *, close: bool) -> None:
        """Send a whole reply, and close where that is said."""

    def default_headers(self) -> Iterable[tuple[bytes, bytes]]:
        """The headers of every reply."""


class FastPath:
    """Answers what can be answered without waiting for anything but an image's decoding and the model.

    Args:
        routes: what it answers.
        registry: of the models.
        decoder: of images.
        recorder: told of each request.
        gate: lets requests in by their keys.
        accounts: told of each answer.
        settings: with the limits.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        registry: Registry,
        decoder: Decoder,
        recorder: Recorder,
        gate: Gate,
        accounts: Accounts,
        settings: Settings,
    ) -> None:
        self._patterns = [(route, route.pattern()) for route in routes]
        self._registry, self._gate = registry, gate
        self.decoder, self.recorder, self.accounts, self.settings = decoder, recorder, accounts, settings
        self._look_up = lru_cache(256)(self._match)

    def match(self, url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Match | None:
        """A POST's path, where the request may be one for the fast path.

        Args:
            url: the request's target.
            headers: with names in lower case.
        """
        route = self._look_up(url) if len(url) <= _LONGEST_URL else None
        if route is None:
            return None
        said = b""
        for name, value in headers:
            if name == b"content-length":
                said = value
            elif name in {b"content-encoding", b"transfer-encoding"}:
                return None
        length = int(said) if said.isdigit() else math.inf
        if length > min(UNHELD, self.settings.max_body):
            return None
        if length > AT_ONCE_BYTES and route.route.endpoint.parsed_bytes(_as_text(headers), int(length)) > AT_ONCE_BYTES:
            return None
        return route

    def answer(self, call: FastCall) -> bool:
        """Begin to answer a call; False where the route has to, and nothing has been done."""
        refused = self._gate.check(call.path, call.headers, call.context)
        if refused:
            call.refuse(refused)
            return True
        try:
            loaded = self._registry.choose(call.match.name, call.match.version)
            call.context.metric_labels = loaded.metric_labels
            endpoint = call.match.route.endpoint
            headers = _as_text(call.headers)
            endpoint.check(headers, loaded, self.settings)
            asked: Asked = endpoint.read(headers, call.body, loaded, self.settings)
            if asked.tensor is None and len(asked.encoded) != 1:
                return False
            call.begin(loaded, asked)
        except Exception as error:
            reply = self.reply_to(call.path, error)
            if reply is None:  # a fault of ours, which the route meets as well, and reports
                return False
            call.finish(reply)
        return True

    def reply_to(self, path: str, error: Exception) -> Response | None:
        """The reply to an error of a call, which is counted where it is for want of room; None to a fault of ours."""
        if isinstance(error, Overloaded):
            self.recorder.metrics.shed.labels("queue_full").inc()
        return errors.reply_to(path, error)

    def _match(self, url: bytes) -> Match | None:
        for route, pattern in self._patterns:
            matched = pattern.fullmatch(url)
            if matched:
                parameters = matched.groupdict()
                name, version = parameters.get("name"), parameters.get("version")
                return Match(route, None if name is None else name.decode(), None if version is None else int(version))
        return None


def _as_text(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by name; of several with one name the first."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(list(headers))}


@dataclass(slots=True)
class _Run:
    """A run that a call waits for."""

    loaded: LoadedModel
    asked: Asked
    images: Pixels
    submission: Submission


class FastCall:
    """A request on the fast path. Its connection has it where it would have uvicorn's cycle of a request.

    Attributes:
        disconnected, keep_alive, message_event, response_started, response_complete, waiting_for_100_continue: as
            uvicorn's `RequestResponseCycle` has them.

    Args:
        fast: what answers it.
        connection: where it came from.
        arrived: the request.
        path: its path, as text.
        keep_alive: whether the connection stays open.
    """

    message_event: Final = asyncio.Event()
    """Set by uvicorn where a client leaves; nobody waits for it."""
    __slots__ = (
        "_connection", "_decoding", "_fast", "_run", "body", "context", "disconnected", "headers",
        "keep_alive", "match", "path", "response_complete", "response_started", "waiting_for_100_continue",
    )  # fmt: skip

    def __init__(
        self, fast: FastPath, connection: Connection, arrived: Arriving, *, path: str, keep_alive: bool
    ) -> None:
        self._fast, self._connection, self.path, self.keep_alive = fast, connection, path, keep_alive
        self.match, self.headers, self.context = arrived.match, arrived.headers, arrived.context
        self.body = arrived.body[0] if len(arrived.body) == 1 else b"".join(arrived.body)
        self.disconnected = self.response_started = self.response_complete = self.waiting_for_100_continue = False
        self._decoding: asyncio.Task[None] | None = None
        self._run: _Run | None = None

    def begin(self, loaded: LoadedModel, asked: Asked) -> None:
        """Queue the images, after the decoding of an image that takes a while. Raises `ImageError`, `Overloaded`."""
        self.context.deadline = self.context.arrived + self._seconds(asked)
        images = asked.tensor
        if images is None:
            pixels = self._decoded_at_once(loaded, asked)
            images = None if pixels is None else pixels[None]
        if images is None:
            self._decoding = asyncio.get_running_loop().create_task(self._decode(loaded, asked))
        else:
            self._queue(loaded, asked, images)
        self._fast.recorder.metrics.requests.in_flight += 1

    def cancel(self) -> None:
        """Its client has left."""
        if self._run:
            self._fast.recorder.metrics.cancelled.inc()
        if self._give_up():
            identify(self.headers, self.context)
            self._end(CLIENT_GONE, self.match.route.template)

    def end(self) -> None:
        """The service ends, and waits no longer."""
        if self._give_up():
            self.keep_alive = False
            self.finish(errors.shutting_down(self.path))

    def finish(self, reply: Response) -> None:
        """Send the reply."""
        self._send(reply, self.match.route.template)

    def refuse(self, reply: Response) -> None:
        """Send the reply to a request that is not let in, and so has come to no route."""
        self._send(reply, None)

    def _send(self, reply: Response, route: str | None) -> None:
        identity = identify(self.headers, self.context)
        data = written(reply, identity, self._connection.default_headers(), close=not self.keep_alive)
        self._end(reply.status_code, route)
        self._connection.send_reply(data, close=not self.keep_alive)

    def _end(self, status: int, route: str | None) -> None:
        """Record it, and let go of what it has held: its connection may stay, and it with that."""
        self.response_started = self.response_complete = True
        if self._decoding or self._run:
            self._fast.recorder.metrics.requests.in_flight -= 1
        self._decoding, self._run, self.body, self.headers = None, None, b"", []
        self._fast.recorder.record(
            self.context, status, method="POST", path=self.path, client=self._connection.client, route=route
        )

    def _seconds(self, asked: Asked) -> float:
        """How long it may take."""
        usual = self._fast.settings.timeout
        return usual if asked.timeout is None else min(usual, asked.timeout)

    def _give_up(self) -> bool:
        """End what is waited for; returns whether there is such."""
        if self._decoding:
            self._decoding.cancel()
        if self._run:
            self._run.loaded.batcher.cancel(self._run.submission)
        return self._decoding is not None or self._run is not None

    def _decoded_at_once(self, loaded: LoadedModel, asked: Asked) -> Pixels | None:
        """A small image, uint8 (H, W, 3); None where its decoding has to be waited for."""
        try:
            return self._fast.decoder.at_once(asked.encoded[0], loaded)
        except ImageError as error:
            raise self.match.route.endpoint.undecodable(0, error) from None

    async def _decode(self, loaded: LoadedModel, asked: Asked) -> None:
        """Decode the one image, and queue it."""
        try:
            async with asyncio.timeout(self.context.seconds_left):
                pixels = await self._fast.decoder.elsewhere(asked.encoded[0], loaded, self.context)
            self._queue(loaded, asked, pixels[None])
            self._decoding = None
        except TimeoutError:
            self.finish(self._late(asked))
        except ImageError as error:
            self.finish(self._failed(self.match.route.endpoint.undecodable(0, error)))
        except Exception as error:
            self.finish(self._failed(error))

    def _queue(self, loaded: LoadedModel, asked: Asked, images: Pixels) -> None:
        submission = loaded.batcher.submit_to(images, self.context.deadline, self._deliver)
        self._run = _Run(loaded, asked, images, submission)

    def _deliver(self, answer: Probabilities | Exception) -> None:
        if self._run:
            self.finish(self._reply(self._run, answer))

    def _late(self, asked: Asked) -> Response:
        self._fast.recorder.metrics.shed.labels("deadline").inc()
        return self._failed(deadline_exceeded(self._seconds(asked)))

    def _failed(self, error: Exception) -> Response:
        reply = self._fast.reply_to(self.path, error)
        if reply is None:  # a fault of ours: its client is told so, and those it was joined with have their answers
            log.error("%s failed", self.path, exc_info=error)
        return reply or errors.fault(self.path)

    def _reply(self, run: _Run, answer: Probabilities | Exception) -> Response:
        if isinstance(answer, OutOfTime):
            return self._late(run.asked)
        try:
            if isinstance(answer, Exception):
                raise answer
            if self._fast.accounts.feedback or self.context.key:
                identify(self.headers, self.context)  # by which its client may dispute the answer
                self._fast.accounts.add(self.context, run.loaded, run.images, answer)
            return self.match.route.endpoint.reply(run.asked, run.loaded, answer, self._fast.settings)
        except Exception as error:
            return self._failed(error)
