"""The file that `kernelscope look` writes, opened from the disk: no server, no request."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import Tab
from tests.support.server import ROOT, Server, command

CAT = ROOT / "examples" / "images" / "cat.png"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("look") / "cat.html"
    subprocess.run(command("look", str(CAT), "-o", str(path)), check=True, capture_output=True)
    return path


@pytest.fixture(params=["light", "dark"])
def tab(browser: Browser, page_file: Path, request: pytest.FixtureRequest) -> Iterator[Tab]:
    context = browser.new_context(color_scheme=request.param, offline=True, reduced_motion="reduce")
    context.set_default_timeout(15_000)
    opened = Tab(context.new_page(), page_file.as_uri())
    opened.page.goto(opened.url)
    yield opened
    opened.check()
    own = (opened.url, "blob:", "data:")
    assert [one for one in opened.requests if not one.startswith(own)] == []
    context.close()


def test_the_answer_and_its_explanation_are_there(tab: Tab, shipped: Server) -> None:
    answer = shipped.client.post("/predict?version=3", content=CAT.read_bytes()).json()
    expect(tab.page.locator(".verdict .label")).to_have_text(answer["label"])
    assert tab.value(".verdict .probability") == answer["probability"]
    expect(tab.page.locator(".heat > figure canvas").first).to_be_visible()
    told = shipped.client.post("/explain?version=3&method=contributions", content=CAT.read_bytes()).json()
    expect(tab.page.locator(".part[data-channel]")).to_have_count(len(told["contributions"]["channels"]))
    assert tab.value("[data-part='score']") == told["score"]
    assert tab.violations() == []


def test_one_can_walk_down_to_a_value(tab: Tab) -> None:
    tab.page.locator(".strip [data-layer='conv2']").click()
    tab.page.locator(".maps button").first.click()
    tab.page.get_by_role("button", name="The strongest").click()
    expect(tab.page.locator(".sum-line")).to_be_visible()
    expect(tab.page.locator(".kernels button").first).to_be_visible()
    tab.page.locator("#unit-row").fill("0")
    tab.page.locator("#unit-row").press("Enter")
    expect(tab.page.get_by_text("This file does not hold that").first).to_be_visible()


def test_what_needs_a_server_is_not_offered(tab: Tab) -> None:
    expect(tab.page.locator("#views a")).to_have_text(["One image", "The model"])
    expect(tab.page.get_by_text("Choose an image")).to_have_count(0)
    tab.page.get_by_role("link", name="The model").click()
    expect(tab.page.get_by_role("heading", name="Where it comes from")).to_be_visible()
