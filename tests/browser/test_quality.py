"""What holds of every view: accessible, light, quick."""

from __future__ import annotations

import os

import pytest
from playwright.sync_api import expect

from contract.cpu import cores
from tests.support.browser import Open
from tests.support.server import ROOT

LARGEST = 150_000
"""Bytes of HTML, CSS and JavaScript."""
WEIGHT = """(kind) => performance.getEntries()
    .filter(({entryType, name}) => entryType === "navigation" || /\\.(js|css)$/.test(name))
    .reduce((sum, entry) => sum + entry[kind], 0)"""
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


def test_the_page_weighs_little(open_tab: Open) -> None:
    """What one image loads, as it is before gzip; and what all views load, as it is sent."""
    tab = open_tab("#look?example=cat")
    expect(tab.page.locator(".maps button").first).to_be_visible()
    before = tab.page.evaluate(WEIGHT, "decodedBodySize")
    for view in ("many", "model", "live"):
        tab.page.locator(f"[data-view='{view}']").click()
        expect(tab.page.locator(f"#view-{view} h1").first).to_be_visible()
    sent = tab.page.evaluate(WEIGHT, "encodedBodySize")
    assert 0 < before < LARGEST
    assert 0 < sent < LARGEST / 2, "it is not packed"


def test_the_page_can_be_used_at_once(open_tab: Open) -> None:
    """The best of several loads."""
    if os.getloadavg()[0] > 2 * cores():
        pytest.skip("so much else is at work on this machine that a time means nothing")
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
