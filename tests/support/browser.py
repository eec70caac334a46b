"""A tab of a real Chromium that notes what the page asks for and what goes wrong in it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright


def chromium() -> str | None:
    """Where Chromium is: `KERNELSCOPE_CHROMIUM`, or the first of its usual names on the path; else `None`."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("KERNELSCOPE_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium; its sandbox is off for root, for whom it does not start with it."""
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=flags)
        try:
            yield started
        finally:
            started.close()


@dataclass
class Tab:
    """A page, and what it did.

    Attributes:
        page: Playwright's page.
        url: the address of the server.
        requests: every address that was asked for.
        errors: what the console holds of errors and warnings, and exceptions that nobody caught.
        refusals: statuses of replies that are expected: the browser logs each as an error.
    """

    page: Page
    url: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    refusals: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)

    def check(self) -> None:
        """Fail if the page asked another host for anything, or logged an error that was not expected."""
        hosts = {urlsplit(one).netloc for one in self.requests if urlsplit(one).scheme not in ("blob", "data")}
        assert hosts <= {urlsplit(self.url).netloc}, hosts
        expected = tuple(f"the server responded with a status of {status}" for status in self.refusals)
        assert [one for one in self.errors if not any(text in one for text in expected)] == []

    def value(self, selector: str) -> float:
        """The number behind the text of the first element that a selector finds."""
        return float(self.page.locator(selector).first.get_attribute("data-value") or "nan")

    def violations(self) -> list[str]:
        """What axe-core finds against WCAG and its own best practices, one line each."""
        found: list[dict[str, Any]] = Axe().run(self.page).response["violations"]
        return [f"{one['id']}: {node['html']} {_why(node)}" for one in found for node in one["nodes"]]


def _why(node: dict[str, Any]) -> str:
    return re.sub(r"\s+", " ", node.get("failureSummary", ""))


Open = Callable[..., Tab]
"""Opens a tab on a server's page."""
