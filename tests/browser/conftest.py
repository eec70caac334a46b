"""Fixtures of the tests in a browser: Chromium, a server of both forms of the shipped model, a tab."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support import browser as chromium
from tests.support.browser import Open, Tab
from tests.support.models import float32_bundle
from tests.support.server import SHIPPED, Server

expect.set_options(timeout=20_000)  # milliseconds: others may be at work on this machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if chromium.chromium() is None:
        skip = pytest.mark.skip(reason="no Chromium here: apt-get install chromium, or set KERNELSCOPE_CHROMIUM")
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(skip)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.browser() as started:
        yield started


@pytest.fixture(scope="session")
def shipped(serve: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server of the model that ships, version 3, and of its float32 form, version 1."""
    root = tmp_path_factory.mktemp("shipped")
    float32_bundle(SHIPPED, root / "cifar10" / "1")
    shutil.copytree(SHIPPED, root / "cifar10" / "3")
    return serve("--models", str(root), "--versions", "all")


@pytest.fixture
def open_tab(browser: Browser, shipped: Server) -> Iterator[Open]:
    """Opens tabs, each in a profile of its own; what they did is checked at the end."""
    tabs: list[Tab] = []
    with ExitStack() as stack:

        def begin(path: str = "", *, server: Server = shipped, url: str = "", **settings: object) -> Tab:
            context = browser.new_context(**settings)  # type: ignore[arg-type]
            stack.callback(context.close)
            context.set_default_timeout(15_000)
            tab = Tab(context.new_page(), url or server.url + "/")
            tabs.append(tab)
            tab.page.goto(tab.url + path)
            return tab

        yield begin
        for tab in tabs:
            tab.check()


@pytest.fixture
def tab(open_tab: Open) -> Tab:
    """A tab that shows the page of the shipped model."""
    return open_tab()
