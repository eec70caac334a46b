"""The file of `kernelscope look`: whole, and without an address of anything beside it."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser

from service.look import single_file
from tests.support.server import ROOT

WEB = ROOT / "service" / "web"


class Parts(HTMLParser):
    """The scripts of a page, by type and id, and the addresses in its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: dict[str, str] = {}
        self.addresses: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]
        self._inside = found.get("type") or "" if tag == "script" else ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[self._inside] = data
            self._inside = ""


def modules(text: str) -> dict[str, str]:
    """The modules of a file by name."""
    imports: dict[str, str] = json.loads(Parts(text).scripts["importmap"])["imports"]
    return {name: base64.b64decode(address.partition(",")[2]).decode() for name, address in imports.items()}


def test_nothing_beside_the_file_is_named() -> None:
    parts = Parts(single_file.html({"replies": {}}))
    assert [one for one in parts.addresses if not one.startswith(("#", "data:"))] == []
    assert "connect-src" not in single_file.html({}), "default-src 'none' holds"


def test_every_import_is_in_the_map_or_needs_a_server() -> None:
    found = modules(single_file.html({}))
    assert found["kernelscope/lib/dom.js"] == (WEB / "lib" / "dom.js").read_text(encoding="utf-8")
    for name, text in found.items():
        assert not re.search(r"""(?:from|import\()\s*"\.""", text), name
        for imported in re.findall(r"""(?:from|import\()\s*"(kernelscope/[^"]+)\"""", text):
            assert imported in found or imported.startswith(("kernelscope/many/", "kernelscope/live/")), imported


def test_a_recording_cannot_end_its_element() -> None:
    recording = {"image": {"name": "</script><script>alert(1)</script>"}}
    parts = Parts(single_file.html(recording))
    assert json.loads(parts.scripts["application/json"]) == recording
