"""Fixtures that many tests share: real servers."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from contract.card import Accuracy, Training
from tests.support.models import colour_bundle
from tests.support.server import Server, start


def pytest_configure() -> None:
    """A shell starts what it runs in the background with Ctrl-C ignored, which the servers of tests would inherit."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers that are ended with the session, if a test has not ended them."""
    started: list[Server] = []

    def begin(*flags: str, wrapper: Sequence[str] = (), **environment: str) -> Server:
        started.append(start(*flags, wrapper=wrapper, **environment))
        return started[-1]

    yield begin
    for server in started:
        server.client.close()
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        server.reader.join()
        assert server.process.stdout is not None
        server.process.stdout.close()


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the model `colours`."""
    root = tmp_path_factory.mktemp("models")
    colour_bundle(root, training=Training(recipe="none"), accuracy=Accuracy(accuracy=1.0))
    return root


@pytest.fixture(scope="session")
def server(serve: Callable[..., Server], colours: Path) -> Server:
    """A server of `colours`, with small limits."""
    return serve("--models", str(colours), "--max-body", "300000", "--max-images", "8", "--max-pixels", "4000000")
