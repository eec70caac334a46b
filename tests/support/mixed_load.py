"""A mixture of requests as many clients send them, at a given rate, with what is right to answer to each."""

from __future__ import annotations

import base64
import http.client
import io
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from tests.support import bombs
from tests.support.images import RGB, image
from tests.support.mutation import mutate_bytes

SAID = {1: {"red": "red", "green": "green", "blue": "blue"}, 2: {"red": "blue", "green": "red", "blue": "green"}}
"""What each version of the model `colours` answers to an image of each colour."""
COLOURS = tuple(SAID[1])
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Request:
    """One request, and what is right.

    Attributes:
        is_right: looks at the status and the body of a reply, which is no 503.
    """

    method: str
    path: str
    body: bytes | None
    headers: dict[str, str]
    is_right: Callable[[int, bytes], bool]


@dataclass
class Seen:
    """What the clients have seen.

    Attributes:
        latencies: when a request was due, counted from the start, and seconds from then to its reply.
        statuses: how often each came.
        wrong, lost: replies that were not right, and requests without one.
    """

    latencies: list[tuple[float, float]] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def percentile(self, share: float, since: float, until: float) -> float:
        """Of the latencies in a period, in seconds."""
        return float(np.quantile([took for due, took in self.latencies if since <= due < until], share))


def _photograph(colour: str) -> bytes:
    noise = np.random.default_rng(0).integers(-40, 41, (480, 640, 3))
    pixels = np.clip(np.array(RGB[colour]) + noise, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=60)
    return out.getvalue()


class Mixture:
    """Makes requests to a server of the versions 1 and 2 of `colours`; a tenth of them is bad.

    Args:
        seed: the same seed makes the same requests.
        bad: whether there are bad ones.
    """

    def __init__(self, seed: int, *, bad: bool) -> None:
        self._rng = random.Random(seed)  # noqa: S311 -- the same seed makes the same requests
        self._photographs = {colour: _photograph(colour) for colour in COLOURS}
        self._images = {colour: image(colour) for colour in COLOURS}
        self._bomb = bombs.tiny_webp(9000)
        good = (self._raw, self._raw, self._raw, self._small, self._form, self._batch, self._v1, self._v2, self._look)
        self._kinds = (*good, self._bad) if bad else good

    def make(self) -> Request:
        """One more request."""
        return self._rng.choice(self._kinds)(self._rng.choice(COLOURS))

    def _raw(self, colour: str) -> Request:
        return Request("POST", "/predict", self._photographs[colour], {"Content-Type": "image/jpeg"}, _says(colour))

    def _small(self, colour: str) -> Request:
        return Request("POST", "/predict", self._images[colour], {}, _says(colour))

    def _form(self, colour: str) -> Request:
        body = bombs.form([self._photographs[colour]])
        return Request("POST", "/predict", body, {"Content-Type": bombs.FORM}, _says(colour))

    def _batch(self, colour: str) -> Request:
        colours = [colour, *COLOURS]
        sent = json.dumps({"images": [_base64(self._images[one]) for one in colours]}).encode()

        def is_right(status: int, body: bytes) -> bool:
            reply = json.loads(body)
            labels = [one["label"] for one in reply["predictions"]]
            return status == 200 and labels == [SAID[reply["version"]][one] for one in colours]

        return Request("POST", "/predict/batch", sent, _JSON, is_right)

    def _v1(self, colour: str) -> Request:
        sent = json.dumps({"instances": [{"b64": _base64(self._images[colour])}]}).encode()

        def is_right(status: int, body: bytes) -> bool:
            (probabilities,) = json.loads(body)["predictions"]
            return status == 200 and int(np.argmax(probabilities)) == COLOURS.index(colour)

        return Request("POST", "/v1/models/colours:predict", sent, _JSON, is_right)

    def _v2(self, colour: str) -> Request:
        headers = {"Inference-Header-Content-Length": "0"}

        def is_right(status: int, body: bytes) -> bool:
            probabilities = np.frombuffer(body[-4 * len(COLOURS) :], np.float32)
            return status == 200 and int(np.argmax(probabilities)) == COLOURS.index(colour)

        return Request("POST", "/v2/models/colours/infer", self._images[colour], headers, is_right)

    def _look(self, _: str) -> Request:
        path = self._rng.choice(("/health/live", "/health/ready", "/models", "/metrics"))
        return Request("GET", path, None, {}, lambda status, _: status == 200)

    def _bad(self, colour: str) -> Request:
        kind = self._rng.randrange(4)
        if kind == 0:
            damaged = mutate_bytes(self._rng, self._photographs[colour], keep=12)
            return Request("POST", "/predict", damaged, {}, lambda status, _: status in (200, 400, 413, 422))
        if kind == 1:
            return Request("POST", "/predict", b'{"image": [' + b"1," * 5000, _JSON, _is_refused)
        if kind == 2:
            return Request("POST", "/v2/models/nothing/infer", b"{}", _JSON, _is_refused)
        return Request("POST", "/predict", self._bomb, {}, _is_refused)


def _says(colour: str) -> Callable[[int, bytes], bool]:
    def is_right(status: int, body: bytes) -> bool:
        reply = json.loads(body)
        return status == 200 and bool(reply["label"] == SAID[reply["version"]][colour])

    return is_right


def _is_refused(status: int, body: bytes) -> bool:
    return 400 <= status < 500 and "error" in json.loads(body)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def send(
    url: str, seconds: float, *, rate: float | None = None, bad: bool = True, clients: int = 16, period: int = 0
) -> Seen:
    """Let clients ask for a while, each on one connection.

    Args:
        url: of the server.
        seconds: for how long.
        rate: requests a second of all clients together; as many as they can where None.
        bad: whether some are bad.
        clients: how many.
        period: changes the requests.
    """
    seen, lock, interrupted = Seen(), threading.Lock(), threading.Event()
    host, port = url.removeprefix("http://").split(":")
    # before the clock starts: to make the images takes seconds
    mixtures = [Mixture(clients * period + number, bad=bad) for number in range(clients)]
    began = time.monotonic()

    def work(number: int, mixture: Mixture) -> None:
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        for turn in itertools.count():
            due = (turn + number / clients) * clients / rate if rate else time.monotonic() - began
            if due >= seconds:
                break
            if interrupted.wait(max(0.0, began + due - time.monotonic())):
                break
            request = mixture.make()
            fault, status = _one(connection, request)
            with lock:
                seen.latencies.append((due, time.monotonic() - began - due))
                seen.statuses[status] += 1
                if fault:
                    (seen.wrong if status else seen.lost).append(fault)
        connection.close()

    threads = [threading.Thread(target=work, args=arguments) for arguments in enumerate(mixtures)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        interrupted.set()
    return seen


def _one(connection: http.client.HTTPConnection, request: Request) -> tuple[str, int]:
    """Send a request; returns what is wrong with its reply, if anything, and its status, 0 where there is none."""
    said = f"{request.method} {request.path}"
    try:
        connection.request(request.method, request.path, request.body, request.headers)
        reply = connection.getresponse()
        body = reply.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return f"{said}: {error!r}", 0
    if reply.status == 503 or request.is_right(reply.status, body):
        return "", reply.status
    return f"{said}: {reply.status} {body[:200]!r}", reply.status
