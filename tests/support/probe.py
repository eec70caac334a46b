"""Another client, in a process of its own: what it asks for, and how long each reply takes.

`python -m tests.support.probe URL PHOTOGRAPH [KEY]` asks for a prediction, for liveness and for readiness, each on a
new connection and again and again, and writes a line of JSON for each reply, until its standard input ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

PHOTO, LIVE, READY = "photo", "live", "ready"
_PAUSES = {PHOTO: 0.1, LIVE: 0.05, READY: 0.2}
_TIMEOUT = 30.0
_ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Reply:
    """One reply to the other client.

    Attributes:
        kind: `photo`, `live` or `ready`.
        asked: when, by the clock that counts from the machine's start.
        seconds: until the reply was whole.
        status: 0 where there was none.
        said: the label of a prediction, or what was wrong.
    """

    kind: str
    asked: float
    seconds: float
    status: int
    said: str


@dataclass
class Probe:
    """What another client has seen so far."""

    replies: list[Reply] = field(default_factory=list)

    def of(self, kind: str, since: float = 0.0, until: float = float("inf")) -> list[Reply]:
        """Replies to what was asked in a period."""
        return [reply for reply in list(self.replies) if reply.kind == kind and since <= reply.asked < until]


@contextmanager
def probing(url: str, photograph: Path, key: str = "") -> Iterator[Probe]:
    """Let another client ask, in a process of its own, while the block runs."""
    found = Probe()
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, url, str(photograph), *([key] if key else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    )

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            found.replies.append(Reply(**json.loads(line)))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield found
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        reader.join()
        process.stdout.close()
        process.wait()


def _ask(address: tuple[str, int], kind: str, photograph: bytes, key: str) -> Reply:
    asked = time.monotonic()
    status, said = 0, ""
    connection = HTTPConnection(*address, timeout=_TIMEOUT)
    headers = {"Content-Type": "image/jpeg"} | ({"X-API-Key": key} if key else {})
    try:
        if kind == PHOTO:
            connection.request("POST", "/predict", photograph, headers)
        else:
            connection.request("GET", f"/health/{kind}")
        reply = connection.getresponse()
        body = reply.read()
        status = reply.status
        said = json.loads(body)["label"] if kind == PHOTO and status == 200 else body[:200].decode(errors="replace")
    except (OSError, HTTPException) as error:
        said = repr(error)
    finally:
        connection.close()
    return Reply(kind, asked, time.monotonic() - asked, status, said)


def main(url: str, photograph: str, key: str = "") -> None:
    """Ask until standard input ends."""
    host, port = url.removeprefix("http://").split(":")
    data, ended, printing = Path(photograph).read_bytes(), threading.Event(), threading.Lock()

    def repeat(kind: str) -> None:
        while not ended.wait(_PAUSES[kind]):
            reply = _ask((host, int(port)), kind, data, key)
            with printing:
                print(json.dumps(reply.__dict__), flush=True)

    threads = [threading.Thread(target=repeat, args=(kind,)) for kind in _PAUSES]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    ended.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
