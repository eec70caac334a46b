"""What holds of every view: accessible, light, quick."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.support.server import ROOT

LARGEST = 150_000
"""Bytes of HTML, CSS and JavaScript."""
SOON = 300
"""Milliseconds until the page can be used, on the server's own machine."""

VIEWS = {
    "": ".example",
    "#many": "#many-folder",
    "#model": ".confusion",
    "#live": ".tile",
    "docs": ".call",
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing(open_tab: Open, view: str, scheme: str) -> None:
    tab = open_tab(view, color_scheme=scheme, reduced_motion="reduce")
    expect(tab.page.locator(VIEWS[view]).first).to_be_attached()
    assert tab.violations() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_an_answer(open_tab: Open, scheme: str) -> None:
    tab = open_tab(color_scheme=scheme, reduced_motion="reduce")
    tab.page.get_by_role("button", name="Beside another").click()
    tab.page.get_by_role("button", name="Example: cat").click()
    expect(tab.page.locator(".verdict")).to_have_count(2)
    assert tab.violations() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_a_grid(open_tab: Open, scheme: str) -> None:
    tab = open_tab("#many", color_scheme=scheme, reduced_motion="reduce")
    tab.page.set_input_files("#many-files", sorted((ROOT / "examples" / "images").iterdir()))
    expect(tab.page.get_by_role("button", name="Download CSV")).to_be_visible()
    assert tab.violations() == []


def test_the_page_weighs_little() -> None:
    files = (path for path in (ROOT / "service" / "web").rglob("*") if path.is_file())
    assert sum(path.stat().st_size for path in files) < LARGEST


def test_the_page_can_be_used_at_once(open_tab: Open) -> None:
    """The best of several loads: others may be at work on this machine."""
    tab = open_tab()
    times = []
    for _ in range(5):
        expect(tab.page.locator("#choose-model")).to_be_visible()
        times.append(tab.page.evaluate("performance.getEntriesByName('interactive')[0].startTime"))
        tab.page.reload()
    assert min(times) < SOON, times


def test_colours_can_be_chosen(open_tab: Open) -> None:
    tab = open_tab(color_scheme="light")
    button = tab.page.get_by_role("button", name="Colours")
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    light = tab.page.evaluate(paper)
    button.click()
    assert tab.page.evaluate(paper) == light
    button.click()
    dark = tab.page.evaluate(paper)
    assert dark != light
    tab.page.reload()
    expect(button).to_be_visible()
    assert tab.page.evaluate(paper) == dark
