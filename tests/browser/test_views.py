"""The other views: many images, the card, the live panel, the reference."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.browser import Open
from tests.support.server import ROOT, Server

EXAMPLES = sorted((ROOT / "examples" / "images").iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images in folders of classes; one lies in the wrong one, one is none, one cannot be read."""
    for path in EXAMPLES:
        (tmp_path / "set" / path.stem).mkdir(parents=True)
        (tmp_path / "set" / path.stem / "1.png").write_bytes(path.read_bytes())
    (tmp_path / "set" / "ship" / "cat, =1.png").write_bytes((ROOT / "examples" / "images" / "cat.png").read_bytes())
    (tmp_path / "set" / "ship" / "notes.txt").write_text("no image")
    (tmp_path / "set" / "ship" / "broken.png").write_bytes(b"\x89PNG")
    return tmp_path / "set"


def test_a_folder_becomes_a_grid_and_a_csv(open_tab: Open, folder: Path, shipped: Server) -> None:
    tab = open_tab("#many")
    tab.page.set_input_files("#many-folder", folder)
    expect(tab.page.locator(".progress").get_by_text("12 images answered.")).to_be_visible()
    expect(tab.page.get_by_text("1 file without an image's name left out.")).to_be_visible()
    expect(tab.page.locator("#many-summary")).to_contain_text("10 of 11 answers")
    expect(tab.page.locator("#many-summary")).to_contain_text("1 could not be read")

    tab.page.locator("#order").select_option("disagreement with the folder first")
    expect(tab.page.locator(".grid li").first).to_contain_text("folder: ship")
    tab.page.locator("#order").select_option("surest first")
    tab.page.locator("#only").select_option("not read")
    expect(tab.page.locator(".grid li")).to_have_count(1)
    tab.page.locator("#only").select_option("all")

    with tab.page.expect_download() as download:
        tab.page.get_by_role("button", name="Download CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"), newline="")))
    assert len(rows) == 12
    for row in rows:
        path = folder.parent / row["file"]
        if row["error"]:
            assert path.name == "broken.png"
            continue
        answer = shipped.client.post("/predict?version=3", content=path.read_bytes()).json()
        assert (row["label"], float(row["probability"])) == (answer["label"], answer["probability"])
        assert row["agrees"] == str(answer["label"] == path.parent.name).lower()


def test_from_the_grid_an_image_is_looked_into(open_tab: Open, folder: Path) -> None:
    tab = open_tab("#many")
    tab.page.set_input_files("#many-folder", folder)
    tab.page.locator("#only").select_option("other than the folder")
    tab.page.locator(".grid button").click()
    expect(tab.page.locator(".verdict .label")).to_have_text("cat")


def test_a_folder_without_images_is_told(open_tab: Open, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("a")
    tab = open_tab("#many")
    tab.page.set_input_files("#many-folder", tmp_path / "text")
    expect(tab.page.get_by_role("alert")).to_contain_text("There is no image in that")


def test_the_card_is_shown(open_tab: Open, shipped: Server) -> None:
    tab = open_tab("#model")
    card = shipped.client.get("/models/cifar10?version=3").json()["card"]
    expect(tab.page.locator(".tile").first).to_contain_text(f"{card['accuracy']['accuracy']:.1%}".replace("%", " %"))
    cells = tab.page.locator(".confusion td.right").all_inner_texts()
    assert [int(one) for one in cells] == [row[i] for i, row in enumerate(card["accuracy"]["confusion"])]
    expect(tab.page.locator(".facts")).to_contain_text(card["data"]["checksum"])
    tab.page.locator("#choose-model").select_option("cifar10 · version 1")
    other = shipped.client.get("/models/cifar10?version=1").json()["card"]
    expect(tab.page.locator(".facts")).to_contain_text(other["created"][:10])
    expect(tab.page.locator(".tile", has_text="one thread")).to_contain_text(other["cost"].get("dtype", ""))


def test_the_live_panel_counts_requests(open_tab: Open, shipped: Server) -> None:
    tab = open_tab("#live")
    answered = tab.page.locator("[data-figure='requests answered since the start']")
    expect(answered).to_be_visible()
    before = int(answered.inner_text().replace(",", ""))
    for path in EXAMPLES:
        shipped.client.post("/predict", content=path.read_bytes())
    expect(answered).to_have_text(f"{before + len(EXAMPLES):,}")
    expect(tab.page.locator("[data-chart='Images in a batch']")).to_contain_text("batches")
    expect(tab.page.locator("[data-chart='Latency'] b")).to_contain_text("ms")


def test_the_live_panel_rests_while_it_is_hidden(open_tab: Open) -> None:
    tab = open_tab("#live")
    expect(tab.page.locator("[data-chart]").first).to_be_visible()
    tab.page.get_by_role("link", name="The model").click()
    expect(tab.page.get_by_role("heading", name="Where it comes from")).to_be_visible()
    before = sum(one.endswith("/metrics") for one in tab.requests)
    tab.page.wait_for_timeout(2500)  # nothing happens, which no event tells
    assert sum(one.endswith("/metrics") for one in tab.requests) <= before + 1


def test_the_reference_lists_every_call(open_tab: Open, shipped: Server) -> None:
    tab = open_tab("docs")
    document = shipped.client.get("/openapi.json").json()
    expect(tab.page.locator(".call")).to_have_count(sum(len(methods) for methods in document["paths"].values()))
    tab.page.locator("summary", has_text="What is in one image").click()
    expect(tab.page.locator(".call[open]").first).to_contain_text("multipart/form-data")
    expect(tab.page.locator(".call[open]").first).to_contain_text("curl")
