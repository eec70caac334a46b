"""One image: how it gets in, and the answer to it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.browser import Open, Tab
from tests.support.images import image
from tests.support.proxy import under_prefix
from tests.support.server import ROOT, Server

CAT = ROOT / "examples" / "images" / "cat.png"
DROP = """async ([type, name, content, where]) => {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, {type: "image/png"}));
    const init = {bubbles: true, cancelable: true};
    const event = type === "paste"
        ? new ClipboardEvent(type, {...init, clipboardData: transfer})
        : new DragEvent(type, {...init, dataTransfer: transfer});
    document.querySelector(where).dispatchEvent(event);
}"""


def hand(tab: Tab, kind: str, where: str = "main", content: bytes | None = None) -> None:
    """Drop or paste an image."""
    text = base64.b64encode(CAT.read_bytes() if content is None else content).decode()
    tab.page.evaluate(DROP, [kind, "cat.png", text, where])


def equals_api(tab: Tab, server: Server, path: Path, version: int = 3) -> None:
    """See that every probability on the page is the API's."""
    answer = server.client.post(f"/predict?top_k=10&version={version}", content=path.read_bytes()).json()
    expect(tab.page.locator(".verdict .label").first).to_have_text(answer["label"])
    assert tab.value(".verdict .probability") == answer["probability"]
    figures = tab.page.locator(".answer").first.locator(".bars .figure")
    shown = [float(one.get_attribute("data-value") or "nan") for one in figures.all()]
    assert shown == [one["probability"] for one in answer["top"]]
    names = tab.page.locator(".answer").first.locator(".bars .name").all_inner_texts()
    assert names == [one["label"] for one in answer["top"]]


def test_an_example_is_answered(tab: Tab, shipped: Server) -> None:
    tab.page.get_by_role("button", name="Example: cat").click()
    equals_api(tab, shipped, CAT)
    expect(tab.page.locator("#announce")).to_contain_text("cat")


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_an_image_is_dropped_or_pasted_anywhere(tab: Tab, shipped: Server, kind: str) -> None:
    expect(tab.page.locator("#choose-model")).to_be_visible()
    hand(tab, kind)
    equals_api(tab, shipped, CAT)


def test_an_image_is_chosen(tab: Tab, shipped: Server) -> None:
    tab.page.set_input_files("#image-file", CAT)
    equals_api(tab, shipped, CAT)
    expect(tab.page.locator(".preview img")).to_have_attribute("alt", "cat.png")


def test_a_camera_is_offered_where_fingers_point(open_tab: Open, tab: Tab) -> None:
    phone = open_tab(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    expect(phone.page.get_by_text("Take a photo")).to_be_visible()
    assert phone.page.locator("#image-camera").get_attribute("capture") == "environment"
    expect(tab.page.get_by_text("Take a photo")).to_be_hidden()
    width = phone.page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390, "the page is wider than a phone"


def test_the_keyboard_alone_suffices(tab: Tab, shipped: Server) -> None:
    expect(tab.page.locator(".example").first).to_be_visible()
    for _ in range(40):
        tab.page.keyboard.press("Tab")
        if tab.page.evaluate("document.activeElement.getAttribute('aria-label')") == "Example: cat":
            break
    tab.page.keyboard.press("Enter")
    equals_api(tab, shipped, CAT)
    tab.page.keyboard.press("3")
    expect(tab.page.get_by_role("heading", name="Where it comes from")).to_be_visible()
    tab.page.keyboard.press("?")
    expect(tab.page.get_by_role("dialog", name="Keys")).to_be_visible()
    tab.page.keyboard.press("Escape")
    expect(tab.page.get_by_role("dialog")).to_have_count(0)


def test_single_keys_can_be_switched_off(tab: Tab) -> None:
    expect(tab.page.locator(".example").first).to_be_visible()
    tab.page.keyboard.press("?")
    tab.page.get_by_label("Single keys do something").uncheck()
    tab.page.keyboard.press("Escape")
    tab.page.keyboard.press("3")
    expect(tab.page.locator("#view-model")).to_be_hidden()


def test_two_models_answer_side_by_side(tab: Tab, shipped: Server) -> None:
    tab.page.get_by_role("button", name="Beside another").click()
    tab.page.get_by_role("button", name="Example: bird").click()
    columns = tab.page.locator(".answer:not([aria-busy])")
    expect(columns).to_have_count(2)
    bird = (ROOT / "examples" / "images" / "bird.png").read_bytes()
    for index, version in enumerate((3, 1)):
        answer = shipped.client.post(f"/predict?version={version}", content=bird).json()
        figure = columns.nth(index).locator(".verdict .probability")
        expect(figure).to_have_attribute("data-value", str(answer["probability"]))
        expect(columns.nth(index)).to_contain_text(f"version {version}")
    tab.page.get_by_role("button", name="Only one").click()
    expect(columns).to_have_count(1)


def test_another_version_is_chosen(tab: Tab, shipped: Server) -> None:
    tab.page.get_by_role("button", name="Example: cat").click()
    equals_api(tab, shipped, CAT)
    tab.page.locator("#choose-model").focus()
    tab.page.locator("#choose-model").select_option("cifar10 · version 1")
    expect(tab.page.locator(".answer")).to_contain_text("version 1")
    expect(tab.page.locator(".answer .bars li")).to_have_count(10)
    equals_api(tab, shipped, CAT, version=1)
    assert tab.page.evaluate("document.activeElement.id") == "choose-model", "the focus stays where it was"


def test_what_is_no_image_is_told_in_the_api_s_words(tab: Tab, shipped: Server) -> None:
    tab.refusals.add(415)
    expect(tab.page.locator("#choose-model")).to_be_visible()
    hand(tab, "drop", content=b"no image at all")
    said = shipped.client.post("/predict", content=b"no image at all").json()["error"]["message"]
    expect(tab.page.get_by_role("alert")).to_contain_text(said[1:])


def test_a_server_that_is_gone_is_told(open_tab: Open, serve: Callable[..., Server], colours: Path) -> None:
    server = serve("--models", str(colours))
    tab = open_tab(server=server)
    expect(tab.page.locator(".example").first).to_be_visible()
    server.client.close()
    server.end()
    hand(tab, "drop")
    expect(tab.page.locator(".answer").get_by_role("alert")).to_contain_text("The server does not answer")
    tab.errors = [one for one in tab.errors if "ERR_CONNECTION_REFUSED" not in one]  # as the browser logs it


def test_an_unsure_answer_says_so(tab: Tab, shipped: Server) -> None:
    grey = image("grey", size=(32, 32))
    assert shipped.client.post("/predict", content=grey).json()["unsure"], "this image does not show what is tested"
    expect(tab.page.locator("#choose-model")).to_be_visible()
    hand(tab, "drop", content=grey)
    expect(tab.page.locator(".badge")).to_have_text("unsure")
    expect(tab.page.locator(".answer")).to_contain_text("may show nothing that the model knows")


def test_a_key_is_asked_for_and_kept_in_the_tab(open_tab: Open, serve: Callable[..., Server], colours: Path) -> None:
    server = serve("--models", str(colours), KERNELSCOPE_API_KEYS="open-sesame")
    tab = open_tab(server=server)
    tab.refusals.add(401)
    dialog = tab.page.get_by_role("dialog", name="This server asks for a key")
    dialog.get_by_label("API key").fill("wrong")
    dialog.get_by_role("button", name="Use this key").click()
    expect(dialog).to_contain_text("That key was refused")
    dialog.get_by_label("API key").fill("open-sesame")
    dialog.get_by_role("button", name="Use this key").click()
    expect(tab.page.locator("#choose-model")).to_be_visible()
    hand(tab, "drop")
    expect(tab.page.locator(".verdict")).to_be_visible()
    tab.page.reload()
    expect(tab.page.locator("#choose-model")).to_be_visible()
    assert tab.page.evaluate("localStorage.length + document.cookie.length") == 0
    other = open_tab(server=server)
    other.refusals.add(401)
    expect(other.page.get_by_role("dialog")).to_be_visible()
    other.page.get_by_role("button", name="Not now").click()
    expect(other.page.get_by_role("alert")).to_contain_text("A key is needed")


def test_it_works_under_a_prefix(open_tab: Open, shipped: Server) -> None:
    with under_prefix(shipped.url, "/inside/it") as url:
        tab = open_tab(url=url)
        tab.page.get_by_role("button", name="Example: cat").click()
        equals_api(tab, shipped, CAT)
        tab.page.get_by_role("link", name="API").click()
        expect(tab.page.get_by_role("heading", level=2).first).to_be_visible()
        tab.check()
