"""`kernelscope.client`, for threads and for asyncio alike, against a real service and against scripted replies."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

import kernelscope
from kernelscope import client as public
from kernelscope.client import AsyncClient, Client, Prediction, Rejected, Retry, errors
from kernelscope.client.retrying import retry_after
from tests.support.images import image
from tests.support.scripted import ANSWER, Reply, Request, error, scripted
from tests.support.server import ROOT, Server

QUICK = Retry(first_wait=0.01)
EXPORTS = {
    "Answer", "AsyncClient", "Client", "ClientError", "ConnectionFailed", "DeadlineExceeded", "Health", "ImageLike",
    "ImageRejected", "Model", "NotFound", "Overloaded", "Prediction", "Rejected", "RequestRejected", "Retry",
    "ServiceFailed", "Unauthorized", "UnexpectedReply",
}  # fmt: skip
KINDS = ("threads", "asyncio")


@pytest.fixture(params=KINDS)
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Calls a method of a client of either kind; what it yields comes as a list."""

    def in_threads(url: str, method: str, /, *arguments: Any, options: dict[str, Any], **keywords: Any) -> Any:
        with Client(url, **options) as client:
            found = getattr(client, method)(*arguments, **keywords)
            return list(found) if method == "predict_many" else found

    async def in_tasks(url: str, method: str, /, *arguments: Any, options: dict[str, Any], **keywords: Any) -> Any:
        async with AsyncClient(url, **options) as client:
            found = getattr(client, method)(*arguments, **keywords)
            return [one async for one in found] if method == "predict_many" else await found

    def call(url: str, method: str, /, *arguments: Any, options: dict[str, Any] | None = None, **keywords: Any) -> Any:
        settled = {"retry": QUICK, **(options or {})}
        if request.param == "threads":
            return in_threads(url, method, *arguments, options=settled, **keywords)
        return asyncio.run(in_tasks(url, method, *arguments, options=settled, **keywords))

    return call


@pytest.fixture(scope="module")
def locked(serve: Callable[..., Server], colours: Path) -> Server:
    return serve("--models", str(colours), "--max-images", "3", KERNELSCOPE_API_KEYS="secret")


def test_what_it_exports() -> None:
    assert set(public.__all__) == EXPORTS
    assert all(getattr(public, name) is not None for name in EXPORTS)
    assert all(
        issubclass(getattr(errors, name), kernelscope.KernelscopeError) for name in dir(errors) if name[0] == "C"
    )
    methods = {name for name in dir(Client) if not name.startswith("_")}
    assert methods == {name for name in dir(AsyncClient) if not name.startswith("_")}


def test_importing_kernelscope_imports_no_client() -> None:
    code = "import sys, kernelscope; print([name for name in ('httpx', 'kernelscope.client') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_real_service(ask: Callable[..., Any], locked: Server, tmp_path: Path) -> None:
    key = {"api_key": "secret"}
    (tmp_path / "red.png").write_bytes(image("red"))
    one = ask(locked.url, "predict", tmp_path / "red.png", top_k=2, options=key)
    assert isinstance(one, Prediction)
    assert (one.model, one.version, one.label, len(one.top)) == ("colours", 1, "red", 2)
    assert one.top[0].probability == one.probability
    images = [image("green"), b"no image", str(tmp_path / "red.png"), image("blue"), image("green")]
    for method in ("predict_batch", "predict_many"):  # five are more than the three that the service takes
        several = ask(locked.url, method, images, options=key)
        assert [getattr(found, "label", None) for found in several] == ["green", None, "red", "blue", "green"]
        assert isinstance(several[1], Rejected)
        assert several[1].code == "unsupported_image"
        assert ask(locked.url, method, [], options=key) == []
    (model,) = ask(locked.url, "models", options=key)
    assert (model.name, model.labels, model.height) == ("colours", ("red", "green", "blue"), 8)
    assert ask(locked.url, "card", "colours", options=key)["labels"] == ["red", "green", "blue"]
    assert ask(locked.url, "health", options=key).models == {"colours": [1]}
    explained = ask(locked.url, "explain", image("red"), method="occlusion", options=key)
    assert explained["class"]["label"] == "red"


def test_its_errors(ask: Callable[..., Any], locked: Server) -> None:
    for kind, status, code, method, arguments, keywords in (
        (errors.Unauthorized, 401, "wrong_key", "predict", (image(),), {"options": {"api_key": "other"}}),
        (errors.Unauthorized, 401, "wrong_key", "models", (), {}),
        (errors.NotFound, 404, "unknown_model", "predict", (image(),), {"model": "absent"}),
        (errors.NotFound, 404, "unknown_model", "card", ("absent",), {}),
        (errors.ImageRejected, 415, "unsupported_image", "predict", (b"text",), {}),
        (errors.ImageRejected, 422, "invalid_parameter", "predict", (image(),), {"top_k": 99}),
        (errors.RequestRejected, 400, "empty", "predict", (b"",), {}),
    ):
        words = {"options": {} if status == 401 else {"api_key": "secret"}, **keywords}
        with pytest.raises(kind) as refused:
            ask(locked.url, method, *arguments, **words)
        assert (refused.value.status, refused.value.code) == (status, code)
        assert "\n" not in str(refused.value)


def test_it_is_tried_again_after_the_time_that_the_service_says(ask: Callable[..., Any]) -> None:
    busy = error(503, "overloaded", Retry_After="1")
    with scripted([busy, Reply(hang_up=True), error(429, "slow_down"), Reply()]) as server:
        start = time.monotonic()
        assert ask(server.url, "predict", image()).label == "cat"
        assert len(server.requests) == 4
        assert 1 <= time.monotonic() - start < 5
    assert all(request.body == image() for request in server.requests)


def test_a_wait_that_is_too_long_is_not_begun(ask: Callable[..., Any]) -> None:
    for said, timeout in (("3600", 30.0), ("5", 2.0), (format_datetime(datetime.now(UTC) + timedelta(hours=1)), 30.0)):
        with scripted([error(503, "overloaded", Retry_After=said)]) as server:
            start = time.monotonic()
            with pytest.raises(errors.Overloaded) as refused:
                ask(server.url, "predict", image(), timeout=timeout)
            assert time.monotonic() - start < 1
            assert refused.value.retry_after
            assert len(server.requests) == 1


def test_tries_end(ask: Callable[..., Any]) -> None:
    with scripted([error(503, "overloaded", "too much waits")]) as server:
        with pytest.raises(errors.Overloaded, match=r"^too much waits$"):
            ask(server.url, "predict", image(), options={"retry": Retry(tries=3, first_wait=0.01)})
        assert len(server.requests) == 3
    with scripted([Reply(hang_up=True)]) as server:
        with pytest.raises(errors.ConnectionFailed, match="does not answer"):
            ask(server.url, "predict", image(), options={"retry": Retry(tries=2, first_wait=0.01)})
        assert len(server.requests) == 2


def test_what_is_wrong_for_good_is_not_tried_again(ask: Callable[..., Any]) -> None:
    for reply, kind in (
        (error(413, "too_large"), errors.ImageRejected),
        (error(500, "internal_error"), errors.ServiceFailed),
        (Reply(302, b"", {"Location": "/elsewhere"}), errors.RequestRejected),
        (Reply(200, b"<html>a router's page</html>"), errors.UnexpectedReply),
        (Reply(200, {"label": "cat"}), errors.UnexpectedReply),
        (Reply(200, []), errors.UnexpectedReply),
        (Reply(200, b"not gzip", {"Content-Encoding": "gzip"}), errors.UnexpectedReply),
    ):
        with scripted([reply]) as server:
            with pytest.raises(kind) as refused:
                ask(server.url, "predict", image())
            assert len(server.requests) == 1, reply
            assert "\n" not in str(refused.value)


def test_a_proxys_page_is_said_in_one_line(ask: Callable[..., Any]) -> None:
    with (
        scripted([Reply(404, b"<html>\n<h1>Nothing\nhere</h1>")]) as server,
        pytest.raises(errors.NotFound, match=r"replied 404: <html> <h1>Nothing here</h1>$"),
    ):
        ask(server.url, "predict", image())


def test_a_deadline_bounds_all_tries_and_goes_to_the_service(ask: Callable[..., Any]) -> None:
    end = threading.Event()
    with scripted([error(503, "overloaded"), Reply(wait=end)]) as server:
        start = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded, match=r"within 0\.7 s") as refused:
            ask(server.url, "predict", image(), timeout=0.7)
        assert 0.6 < time.monotonic() - start < 3
        assert isinstance(refused.value, TimeoutError)
        told = [float(request.query["timeout"]) for request in server.requests]
        assert 0.7 >= told[0] > told[1] > 0
        end.set()


def test_several_images_share_a_deadline_or_have_one_each(ask: Callable[..., Any]) -> None:
    def answer(request: Request) -> Reply:
        count = request.body.count(b"filename=")
        return Reply(200, {"model": "pets", "version": 1, "predictions": [ANSWER] * count})

    with scripted(answer) as server:
        found = ask(server.url, "predict_batch", [image()] * 10, batch_size=4, timeout=9)
        assert len(found) == 10
        assert [request.body.count(b"filename=") for request in server.requests] == [4, 4, 2]
        told = [float(request.query["timeout"]) for request in server.requests]
        assert told == sorted(told, reverse=True)
        many = ask(server.url, "predict_many", (image() for _ in range(100)), batch_size=7)
        assert len(many) == 100
    with (
        scripted([Reply(200, {"predictions": [ANSWER]})]) as server,
        pytest.raises(errors.UnexpectedReply, match="1 answers to 2"),
    ):
        ask(server.url, "predict_batch", [image()] * 2)


def test_a_key_and_no_query_that_was_not_asked_for(ask: Callable[..., Any]) -> None:
    with scripted([Reply()]) as server:
        ask(server.url, "predict", image(), model="pets", options={"api_key": "secret"})
    (request,) = server.requests
    assert request.headers["authorization"] == "Bearer secret"
    assert set(request.query) == {"model", "timeout"}


def test_what_cannot_be_asked(ask: Callable[..., Any], tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(errors.ConnectionFailed, match="is it running"):
        ask(nobody, "health")
    for options, says in (
        ({"api_key": "schlüssel"}, "printable ASCII"),
        ({"api_key": "two words"}, "printable ASCII"),
        ({"timeout": 0}, "the timeout is 0 s"),
    ):
        with pytest.raises(errors.ClientError, match=says):
            ask(nobody, "health", options=options)
    for url in ("localhost:8000", "ftp://there", "", "http://"):
        with pytest.raises(errors.ClientError, match="is no address of a service"):
            ask(url, "health")
    with pytest.raises(errors.ClientError, match="the timeout is -1 s"):
        ask(nobody, "predict", image(), timeout=-1)
    with pytest.raises(FileNotFoundError):
        ask(nobody, "predict", tmp_path / "absent.png")
    with pytest.raises(TypeError, match="not int"):
        ask(nobody, "predict", 3)
    with pytest.raises(errors.ClientError, match="a batch of 0 images"):
        ask(nobody, "predict_batch", [image()], batch_size=0)


def test_retry_after() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after("7") == 7
    assert retry_after("Thu, 01 Jan 2026 00:00:09 GMT", now) == 9
    assert retry_after("Wed, 31 Dec 2025 00:00:00 GMT", now) == 0
    assert [retry_after(value) for value in (None, "soon", "-1", "")] == [None] * 4
