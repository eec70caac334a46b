"""The built documentation in a browser: every page opens, and asks no other host for anything."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.support.server import ROOT

SITE = ROOT / "site"
PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html")) if SITE.is_dir() else []


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and writes no log."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name of the method it replaces
        """Write nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    if not PAGES:
        pytest.skip("the documentation is not built: make docs")
    handler = functools.partial(Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_no_page_asks_another_host(browser: Browser, site: str) -> None:
    page = browser.new_page()
    asked: list[str] = []
    failed: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("response", lambda reply: failed.append(reply.url) if reply.status >= 400 else None)
    for path in PAGES:
        page.goto(site + path)
        assert page.title(), path
    page.close()
    assert [url for url in asked if not url.startswith((site, "data:"))] == []
    assert [url for url in failed if Path(url).suffix in {".css", ".js", ".png", ".svg", ".html"}] == []
