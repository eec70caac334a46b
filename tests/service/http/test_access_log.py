from __future__ import annotations

import asyncio
import io
import json
import logging
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from service.http.access_log import AccessLog
from service.observability import log_setup
from service.observability.metrics import Metrics


def run(app: Any) -> tuple[Metrics, list[Message]]:
    metrics, sent = Metrics(), list[Message]()

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "method": "GET", "path": "/x\n\x1b[2J", "headers": [], "client": ("127.0.0.1", 1)}
    asyncio.run(AccessLog(app, metrics, log_requests=True)(scope, receive, send))
    return metrics, sent


def count(metrics: Metrics, code: str) -> float:
    labels = {"route": "other", "method": "any", "code": code, "model": "", "version": ""}
    samples = [sample for family in metrics.figures() for sample in family.samples]
    return sum(one.value for one in samples if one.name == "kernelscope_requests_total" and one.labels == labels)


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def is_left(scope: Scope, receive: Receive, send: Send) -> None:
    return


def test_what_is_answered_is_counted_and_has_an_id() -> None:
    metrics, sent = run(answers)
    assert count(metrics, "204") == 1
    assert [name for name, _ in sent[0]["headers"]] == [b"x-request-id"]


def test_a_client_that_left_is_counted_as_such() -> None:
    assert count(run(is_left)[0], "499") == 1


def test_a_fault_of_ours_is_counted_as_500() -> None:
    metrics = Metrics()

    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError

    scope: Scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": None}
    with pytest.raises(ValueError):  # noqa: PT011 -- it has no message
        asyncio.run(AccessLog(breaks, metrics, log_requests=False)(scope, None, None))  # type: ignore[arg-type]
    assert count(metrics, "500") == 1
    (in_flight,) = (family for family in metrics.figures() if family.name == "kernelscope_requests_in_flight")
    assert [sample.value for sample in in_flight.samples] == [0]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_what_a_client_sends_cannot_forge_a_line(log_format: str) -> None:
    out = io.StringIO()
    before = {name: logging.getLogger(name).handlers for name in ("kernelscope", "uvicorn")}
    log_setup.configure(log_format, out)
    try:
        run(answers)
    finally:
        for name, handlers in before.items():
            logging.getLogger(name).handlers = handlers
    (line,) = out.getvalue().splitlines()
    assert "\x1b" not in line
    if log_format == "json":
        assert json.loads(line)["status"] == 204
