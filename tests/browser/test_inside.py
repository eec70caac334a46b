"""How an answer arose: heat maps, channels, layers and single values, each beside what the API says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from playwright.sync_api import Locator, expect
from rich.console import Console

from contract.bundle import CARD, read
from tests.support.browser import Open, Tab
from tests.support.images import image
from tests.support.models import colour_bundle, float32_bundle
from tests.support.planted import LABELS, planted_bundle, planted_images
from tests.support.server import ROOT, SHIPPED, Server
from training.data.dataset import Dataset
from training.data.split import Split
from training.export import features

CAT = (ROOT / "examples" / "images" / "cat.png").read_bytes()
INT8, FLOAT = 3, 1
"""The versions of the model that ships."""
FIRST = "layer=conv1&channel=16"


def explain(server: Server, method: str, target: str = "cat", version: int = INT8, **query: str) -> Any:
    """What the API explains of the cat."""
    return _post(server, "/explain", {"method": method, "class": target, "version": str(version), **query})


def unit(server: Server, layer: str, place: str, version: int = INT8) -> Any:
    """The arithmetic of one value of the cat."""
    return _post(server, "/activations", {"layer": layer, "unit": place, "version": str(version)})


def _post(server: Server, path: str, query: dict[str, str]) -> Any:
    reply = server.client.post(path, params=query, content=CAT)
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.fixture
def cat(open_tab: Open) -> Tab:
    """A tab that looks into the cat."""
    return look(open_tab())


def look(tab: Tab, name: str = "cat") -> Tab:
    tab.page.get_by_role("button", name=f"Example: {name}").click()
    expect(tab.page.locator(".part.sum")).to_be_visible()
    expect(tab.page.locator(".heat > figure canvas").first).to_be_visible()
    return tab


def pixels(canvas: Locator) -> str:
    """What a canvas shows."""
    shown: str = canvas.evaluate("(canvas) => canvas.toDataURL()")
    return shown


def part(tab: Tab, name: str) -> float:
    return tab.value(f"[data-part='{name}']")


def same(shown: float, told: float) -> bool:
    return shown == pytest.approx(told, rel=1e-6, abs=1e-9)


def test_the_heat_map_is_the_api_s(cat: Tab, shipped: Server) -> None:
    told = explain(shipped, "occlusion")
    expect(cat.page.locator("#method")).to_have_value("occlusion")
    assert same(cat.value(".heat .legend"), told["map"]["scale"])
    cat.page.locator(".heat summary").click()
    shown = cat.page.locator(".numbers tr").first.locator("td").all_inner_texts()
    assert [float(one.replace("−", "-")) for one in shown] == pytest.approx(told["map"]["values"][0], abs=5e-4)
    expect(cat.page.locator(".told")).to_contain_text(told["tells"])
    expect(cat.page.locator(".told")).to_contain_text(told["limits"])


def test_the_slider_fades_the_map_in(cat: Tab) -> None:
    canvas = cat.page.locator(".heat > figure canvas").first
    slider = cat.page.locator("#strength")
    seen = []
    for strength in ("0", "50", "100"):
        slider.fill(strength)
        seen.append(pixels(canvas))
    assert len(set(seen)) == 3


def test_method_class_and_contrast_are_chosen(cat: Tab, shipped: Server) -> None:
    cat.page.locator("#method").select_option("contributions")
    told = explain(shipped, "contributions")
    expect(cat.page.locator(".heat .legend")).to_have_attribute("data-value", str(told["map"]["scale"]))

    cat.page.locator("#against").select_option("dog")
    told = explain(shipped, "contributions", against="dog")
    expect(cat.page.locator(".part.sum")).to_contain_text("cat less dog")
    assert same(part(cat, "score"), told["score"])

    cat.page.locator(".bars button", has_text="dog").click()
    told = explain(shipped, "contributions", "dog")
    expect(cat.page.locator(".part.sum")).to_contain_text("logit of dog")
    expect(cat.page.locator("#class")).to_have_value("5")
    expect(cat.page.locator("#against")).to_have_value("-1")
    assert same(part(cat, "score"), told["score"])


def test_what_covers_the_image_is_chosen(cat: Tab, shipped: Server) -> None:
    cat.page.locator("#choice").select_option("blur")
    told = explain(shipped, "occlusion", fill="blur")
    expect(cat.page.locator(".heat .legend")).to_have_attribute("data-value", str(told["map"]["scale"]))
    expect(cat.page.locator(".told")).to_contain_text("with blur")


@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_activation"])
def test_gradients_explain_where_the_model_has_them(open_tab: Open, shipped: Server, method: str) -> None:
    tab = look(open_tab(f"#look?model=cifar10@{FLOAT}"))
    told = explain(shipped, method, version=FLOAT)
    tab.page.locator("#method").select_option(method)
    expect(tab.page.locator(".told")).to_contain_text(told["tells"])
    assert tab.value(".heat .legend") == pytest.approx(told["map"]["scale"], rel=1e-4)


def test_the_channels_sum_to_the_score(cat: Tab, shipped: Server) -> None:
    told = explain(shipped, "contributions")["contributions"]
    rows = cat.page.locator(".part[data-channel]")
    shown = {
        int(row.get_attribute("data-channel") or -1): float(row.locator(".figure").get_attribute("data-value") or "nan")
        for row in rows.all()
    }
    assert shown == {one["channel"]: one["value"] for one in told["channels"]}
    rest = [
        float(one.get_attribute("data-value") or "nan")
        for name in ("others", "bias", "rounding")
        for one in cat.page.locator(f"[data-part='{name}']").all()
    ]
    assert sum(shown.values()) + sum(rest) == pytest.approx(part(cat, "score"), abs=1e-4)


def test_a_channel_is_switched_off(cat: Tab, shipped: Server) -> None:
    rows = cat.page.locator(".part[data-channel]")
    channels = [rows.nth(index).get_attribute("data-channel") for index in range(2)]
    for channel in channels:
        cat.page.get_by_label(f"Switch channel {channel} off").check()
    told = explain(shipped, "contributions", without=",".join(map(str, channels)))
    without = told["contributions"]["without"]
    expect(cat.page.locator(".ablated")).to_contain_text(f"channel {channels[0]}, channel {channels[1]}")
    expect(cat.page.locator("[data-part='ablated']")).to_have_attribute("data-value", str(without["probabilities"][3]))


def test_from_a_channel_one_gets_to_its_layer(cat: Tab, shipped: Server) -> None:
    told = explain(shipped, "contributions")["contributions"]
    cat.page.locator(".part[data-channel] button").first.click()
    expect(cat.page.locator(".layer-name")).to_contain_text(told["layer"])
    expect(cat.page.get_by_role("heading", name=f"Channel {told['channels'][0]['channel']}")).to_be_visible()


def test_every_layer_is_there_with_its_arithmetic(cat: Tab, shipped: Server) -> None:
    layers = shipped.client.get(f"/models/cifar10/layers?version={INT8}").json()["layers"]
    buttons = cat.page.locator(".strip button")
    expect(buttons).to_have_count(len(layers))
    for layer in layers:
        cat.page.locator(f".strip [data-layer='{layer['layer']}']").click()
        expect(cat.page.locator(".layer-name")).to_contain_text(layer["layer"])
        if layer["size"]:
            expect(cat.page.locator('[data-fact="output\'s side"]')).to_contain_text(layer["size"]["rows"])
        expect(cat.page.locator(".layer [aria-busy]")).to_have_count(0)
    expect(cat.page.locator(".value-list li").first).to_contain_text("cat")


def test_a_probability_is_traced_back(cat: Tab, shipped: Server) -> None:
    cat.page.locator(".strip button").last.click()
    cat.page.locator(".value-list button").first.click()
    last = shipped.client.get(f"/models/cifar10/layers?version={INT8}").json()["layers"][-1]["layer"]
    told = unit(shipped, last, "0,0,3")
    expect(cat.page.get_by_role("heading", name="Channel 3: cat")).to_be_visible()
    expect(cat.page.locator("[data-part='its own power']")).to_be_visible()
    assert part(cat, "its own power") / told["sum"] == pytest.approx(told["value"], abs=1e-6)


def test_a_click_on_a_value_opens_its_arithmetic(cat: Tab, shipped: Server) -> None:
    cat.page.locator(".strip [data-layer='conv2']").click()
    cat.page.locator(".maps button").first.click()
    seen = cat.page.locator(".bench .seen canvas")
    before = pixels(seen)
    box = cat.page.locator(".bench .map canvas").bounding_box()
    assert box is not None
    side = box["width"] / 31
    cat.page.locator(".bench .map canvas").click(position={"x": 7.5 * side, "y": 4.5 * side})
    expect(cat.page.locator("[data-part='value']").first).to_be_visible()
    channel = cat.page.locator(".maps [aria-pressed='true']").get_attribute("data-channel")
    told = unit(shipped, "conv2", f"4,7,{channel}")
    assert part(cat, "value") == told["value"]
    assert part(cat, "sum") == told["sum"]
    total = told["sum"] + (told["bias"] or 0) + told["rounding"]
    assert total == pytest.approx(told["value"], abs=1e-5)
    terms = cat.page.locator(".terms .figure")
    listed = [float(one.get_attribute("data-value") or "nan") for one in terms.all()]
    assert sum(listed) == pytest.approx(told["sum"], abs=1e-4)
    assert pixels(seen) != before, "the receptive field is drawn on the image"
    expect(cat.page.locator("#unit-row")).to_have_value("4")
    expect(cat.page.locator("#unit-column")).to_have_value("7")


def test_a_value_is_chosen_by_keyboard(cat: Tab, shipped: Server) -> None:
    cat.page.locator(".strip [data-layer='conv1']").focus()
    cat.page.keyboard.press("Enter")
    cat.page.locator(".maps button").first.focus()
    cat.page.keyboard.press("Enter")
    channel = cat.page.locator(".maps [aria-pressed='true']").get_attribute("data-channel")
    cat.page.locator("#unit-row").fill("3")
    cat.page.locator("#unit-column").fill("2")
    cat.page.keyboard.press("Enter")
    told = unit(shipped, "conv1", f"3,2,{channel}")
    expect(cat.page.locator("[data-part='value']").first).to_have_attribute("data-value", str(told["value"]))


def test_the_kernel_slides(cat: Tab) -> None:
    cat.page.locator(".strip [data-layer='conv1']").click()
    cat.page.locator(".maps button").first.click()
    under = cat.page.locator(".bench.narrow figure canvas").first
    expect(under).to_be_visible()
    before = pixels(under)
    cat.page.locator(".bench .map canvas").hover(position={"x": 60, "y": 60})
    expect(cat.page.locator(".readout").last).to_contain_text("row")
    hovered = pixels(under)
    assert hovered != before
    cat.page.locator(".kernels button").nth(1).hover()
    expect(cat.page.locator(".readout").last).to_contain_text("row 0, column")
    expect(cat.page.locator(".kernels button").nth(1)).to_have_attribute("aria-pressed", "true")
    cat.page.mouse.move(0, 0)
    expect(cat.page.locator(".readout").last).to_contain_text("strongest")
    cat.page.get_by_role("button", name="Slide it").click()
    expect(cat.page.locator(".readout").last).to_contain_text("row 1,")
    cat.page.get_by_role("button", name="Stop").click()
    assert pixels(under) not in (before, hovered)


def test_a_link_leads_to_the_same_value(open_tab: Open, shipped: Server) -> None:
    address = f"#look?model=cifar10@{FLOAT}&example=cat&{FIRST}&unit=1,8"
    tab = open_tab(address)
    told = unit(shipped, "conv1", "1,8,16", FLOAT)
    expect(tab.page.locator("[data-part='value']").first).to_have_attribute("data-value", str(told["value"]))
    assert tab.page.url.endswith(address)


def test_keys_change_method_and_layer(cat: Tab) -> None:
    cat.page.locator("#strength").focus()
    cat.page.keyboard.press("m")
    expect(cat.page.locator("#method")).to_have_value("integrated_gradients")
    name = cat.page.locator(".layer-name")
    first = name.inner_text()
    cat.page.keyboard.press("]")
    expect(name).not_to_have_text(first)
    cat.page.keyboard.press("[")
    expect(name).to_have_text(first)


def test_two_models_are_asked_the_same(open_tab: Open, shipped: Server) -> None:
    tab = open_tab()
    tab.page.get_by_role("button", name="Beside another").click()
    look(tab)
    scales = [float(one.get_attribute("data-value") or "nan") for one in tab.page.locator(".heat .legend").all()]
    told = [explain(shipped, "occlusion", version=version)["map"]["scale"] for version in (INT8, FLOAT)]
    assert scales == pytest.approx(told, rel=1e-4)


@pytest.fixture(scope="module")
def mixed(serve: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server of the shipped model and of another, of other classes, whose card holds next to nothing."""
    root = tmp_path_factory.mktemp("models")
    float32_bundle(SHIPPED, root / "cifar10" / "1")
    colour_bundle(root)
    return serve("--models", str(root))


def test_a_model_without_convolutions_or_figures_is_shown(open_tab: Open, mixed: Server) -> None:
    tab = look(open_tab("#look?model=colours@1", server=mixed))
    for button in tab.page.locator(".strip button").all():
        button.click()
        tab.page.locator(".value-list button").first.click()
        expect(tab.page.locator(".arithmetic [data-part='value']").first).to_be_visible()
    tab.page.locator("[data-view='model']").click()
    expect(tab.page.locator("#view-model")).to_contain_text("Sorts images of 8 × 8 pixels into 3 classes.")


def test_a_model_of_other_classes_is_asked_about_its_own_answer(open_tab: Open, mixed: Server) -> None:
    tab = open_tab(server=mixed)
    tab.page.get_by_role("button", name="Beside another").click()
    look(tab)
    told = mixed.client.post("/explain?model=colours&method=occlusion", content=CAT).json()
    heading = tab.page.locator(".heat").last.get_by_role("heading")
    expect(heading).to_have_text(f"colours · version 1: {told['class']['label']}")
    expect(tab.page.locator(".heat").first.get_by_role("heading")).to_have_text("cifar10 · version 1: cat")


def test_a_photograph_is_shown_as_the_network_sees_it(open_tab: Open, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(image("green", size=(640, 480), kind="JPEG"))
    tab = open_tab()
    tab.page.set_input_files("#image-file", tmp_path / "photo.jpg")
    expect(tab.page.locator("#seen canvas")).to_be_visible()
    expect(tab.page.locator("#seen")).to_contain_text("32 × 32 pixels")


def test_what_is_not_stored_is_told_and_not_asked_for(cat: Tab, shipped: Server) -> None:
    told = shipped.client.get(f"/models/cifar10/layers?version={INT8}").json()
    assert told["stored"] == {"features": [], "neighbours": False}, "the test needs a model with nothing beside it"
    expect(cat.page.get_by_text(told["cannot"]["neighbours"])).to_be_visible()
    cat.page.locator(".maps button").first.click()
    expect(cat.page.locator(".channel").get_by_text(told["cannot"]["features"])).to_be_visible()
    asked = {urlsplit(one).path.rpartition("/")[2] for one in cat.requests}
    assert not asked & {"features", "neighbours"}


@pytest.fixture(scope="module")
def prepared(serve: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server of a model beside which training images are kept, and images made for its channels."""
    root = tmp_path_factory.mktemp("models")
    made = planted_bundle(root)
    card = replace(made.card, cost=replace(made.card.cost, dtype="float32"))
    (made.folder / CARD).write_text(card.to_json())
    pixels, targets = planted_images(60, 3)
    split = Split(pixels, targets.astype(np.int64))
    dataset = Dataset("planted", LABELS, split, split, None, "crop", "0")
    features.make(read(made.folder), dataset, Console(quiet=True), seconds=60, steps=2, keep_examples=True)
    return serve("--models", str(root))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_a_channel_looks_for_and_what_is_alike_are_shown(open_tab: Open, prepared: Server, scheme: str) -> None:
    name = prepared.client.get("/models").json()["models"][0]["name"]
    address = f"#look?model={name}@1&example=cat&layer=conv2&channel=3"
    tab = open_tab(address, server=prepared, color_scheme=scheme, reduced_motion="reduce")
    told = prepared.client.get(f"/models/{name}/features?layer=conv2&channel=3").json()
    groups = tab.page.locator(".channel .thumbs")
    expect(groups).to_have_count(2)
    for group, key in zip(groups.all(), ("strongest", "weakest"), strict=True):
        shown = [one.get_attribute("src") for one in group.locator("img").all()]
        assert shown == [one["thumbnail"] for one in told[key]]
    expect(tab.page.locator(".made")).to_have_attribute("src", told["synthetic"]["image"])
    expect(tab.page.get_by_text("An image made to excite it")).to_be_visible()
    near = prepared.client.post("/neighbours", content=CAT).json()["neighbours"]
    alike = tab.page.get_by_role("region", name="Which training images are like it?")
    expect(alike.locator("img")).to_have_count(len(near))
    assert [one.get_attribute("src") for one in alike.locator("img").all()] == [one["thumbnail"] for one in near]
    assert tab.violations() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_inside(open_tab: Open, scheme: str) -> None:
    address = f"#look?model=cifar10@{FLOAT}&example=cat&{FIRST}&unit=1,8"
    tab = open_tab(address, color_scheme=scheme, reduced_motion="reduce")
    for ready in (".part.sum", ".heat > figure canvas", ".sum-line", ".kernels button", ".bench .seen canvas"):
        expect(tab.page.locator(ready).first).to_be_visible()
    tab.page.locator(".heat summary").click()
    assert tab.violations() == []
