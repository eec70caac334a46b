"""The images of the page in README and docs: `make screenshots` makes them anew.

They show the shipped model, served here, on its own example images. Each is reduced to 256 colours: a page has few.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page

from tests.support.browser import browser, chromium
from tests.support.server import ROOT, Server, start

FOLDER = ROOT / "docs" / "images"
LARGEST = 150_000
"""Bytes that an image may have."""
EXAMPLES = sorted((ROOT / "examples" / "images").iterdir())


def answer(page: Page) -> None:
    """The answer, and what it rests on."""
    page.get_by_role("button", name="Example: cat").click()
    page.locator(".part.sum").wait_for()
    page.locator(".heat > figure canvas").first.wait_for()


def value(page: Page) -> None:
    """A channel's map, the kernel that makes it, and one value's arithmetic."""
    page.locator(".strip [data-layer='conv2']").click()
    page.locator(".maps button").first.click()
    page.locator(".kernels button").first.wait_for()
    page.get_by_role("button", name="The strongest").click()
    page.locator(".sum-line").wait_for()
    page.evaluate("document.querySelector('.channel h4').scrollIntoView()")


def many(page: Page) -> None:
    """A grid of answers."""
    page.set_input_files("#many-files", EXAMPLES)
    page.get_by_role("button", name="Download CSV").wait_for()


def live(page: Page) -> None:
    """The live panel, while requests come, more and fewer by turns."""
    address = page.url.partition("#")[0]
    for second in range(12):
        for index in range(10 + 8 * (second % 5)):
            page.request.post(f"{address}predict", data=EXAMPLES[index % len(EXAMPLES)].read_bytes())
        page.wait_for_timeout(500)


SHOTS: dict[str, tuple[str, Callable[[Page], None], int]] = {
    "answer": ("#look", answer, 1340),
    "value": ("#look?example=cat", value, 1260),
    "many": ("#many", many, 760),
    "live": ("#live", live, 860),
}
"""By name: the address, what is done there, and the height in pixels."""


def shoot(running: Browser, server: Server, name: str, scheme: str) -> bytes:
    """One image as a PNG."""
    address, act, height = SHOTS[name]
    size = {"width": 1180, "height": height}
    context = running.new_context(color_scheme=scheme, viewport=size, reduced_motion="reduce")  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{server.url}/{address}")
    act(page)
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    shot = Image.open(io.BytesIO(page.screenshot()))
    context.close()
    out = io.BytesIO()
    shot.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def main(folder: Path = FOLDER) -> int:
    """Write them all; returns the exit code."""
    if chromium() is None:
        print("no Chromium here: apt-get install chromium, or set KERNELSCOPE_CHROMIUM", file=sys.stderr)
        return 1
    folder.mkdir(exist_ok=True)
    server = start("--versions", "all")
    try:
        with browser() as running:
            for name in SHOTS:
                for scheme in ("light", "dark"):
                    data = shoot(running, server, name, scheme)
                    (folder / f"{name}-{scheme}.png").write_bytes(data)
                    print(f"{name}-{scheme}.png: {len(data):,} bytes")
                    if len(data) > LARGEST:
                        print(f"that is more than {LARGEST:,}", file=sys.stderr)
                        return 1
    finally:
        server.client.close()
        server.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
