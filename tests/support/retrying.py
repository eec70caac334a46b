"""Clients that ask again where there was no reply, as clients of a service in a cluster do."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.images import image
from tests.support.server import Server
from tests.support.waiting import eventually

COLOURS = ("red", "green", "blue")
PATIENCE_SECONDS = 15.0
"""Within which a request is answered, however often it has to be sent."""
_TRY_SECONDS = 4.0
"""After which a client takes it that no reply comes, and asks anew."""
_PAUSE = 0.05


@dataclass
class Load:
    """What clients have seen.

    Attributes:
        answered: requests with a right answer.
        retries: replies that did not come, or were 503.
        wrong: what should not have been.
    """

    answered: int = 0
    retries: int = 0
    wrong: list[str] = field(default_factory=list)

    def goes_on(self, answers: int = 10, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait for some more answers."""
        wanted = self.answered + answers
        eventually(lambda: self.answered >= wanted or self.wrong, seconds=seconds)
        assert not self.wrong, self.wrong[:3]


@contextmanager
def retrying_clients(server: Server, said: dict[str, str], count: int = 8) -> Iterator[Load]:
    """Clients that ask while the block runs.

    Args:
        server: of the model `colours`.
        said: the label of each colour.
        count: how many clients.
    """
    load, ended, lock = Load(), threading.Event(), threading.Lock()
    host, port = server.url.removeprefix("http://").split(":")

    def ask(colour: str) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            connection = http.client.HTTPConnection(host, int(port), timeout=_TRY_SECONDS)
            try:
                connection.request("POST", "/predict", image(colour))
                reply = connection.getresponse()
                body = json.loads(reply.read())
            except (OSError, http.client.HTTPException):
                body, status = {}, 503
            else:
                status = reply.status
            finally:
                connection.close()
            with lock:
                if status == 200:
                    load.answered += body["label"] == said[colour]
                    if body["label"] != said[colour]:
                        load.wrong.append(f"{colour}: {body}")
                    return
                if status != 503:
                    load.wrong.append(f"{colour}: {status} {body}")
                    return
                load.retries += 1
            ended.wait(_PAUSE)
        load.wrong.append(f"{colour}: no answer within {PATIENCE_SECONDS:g} s")

    def work(number: int) -> None:
        while not ended.is_set():
            ask(COLOURS[number % len(COLOURS)])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not load.wrong, load.wrong[:3]
