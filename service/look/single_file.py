"""The page's files and a recording as one HTML file, which asks nobody for anything."""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Final

from service.routes.page import WEB

_LEFT_OUT: Final = ("docs.js", "many/", "live/")
"""What needs a server."""

_IMPORT: Final = re.compile(r"""(\bfrom\s*|\bimport\s*\(?\s*)"(\.\.?/[^"]+)\"""")

_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline' data:; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)


def html(recording: dict[str, Any]) -> str:
    """The file.

    A module cannot be inlined as it is, for its imports are addresses: here each becomes a `data:` address, and an
    import map (HTML, "Import maps") gives it the name by which the others import it.
    """
    modules = {
        path.relative_to(WEB).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(WEB.rglob("*.js"))
        if not path.relative_to(WEB).as_posix().startswith(_LEFT_OUT)
    }
    imports = {_name(path): _data("text/javascript", _renamed(path, text)) for path, text in modules.items()}
    icon = _data("image/svg+xml", (WEB / "icon.svg").read_text(encoding="utf-8"))
    page = re.sub(r'<link rel="modulepreload".*\n', "", (WEB / "index.html").read_text(encoding="utf-8"))
    for there, instead in (
        (
            '<meta charset="utf-8">',
            f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        ),
        (
            '<link rel="stylesheet" href="web/style.css">',
            f"<style>\n{(WEB / 'style.css').read_text(encoding='utf-8')}</style>",
        ),
        (
            '<script type="module" src="web/main.js"></script>',
            f'<script type="application/json" id="recording">{_json(recording)}</script>\n'
            f'<script type="importmap">{_json({"imports": imports})}</script>\n'
            f'<script type="module">import "{_name("main.js")}";</script>',
        ),
        ("web/icon.svg", icon),
    ):
        if there not in page:
            raise ValueError(f"index.html has no {there}")
        page = page.replace(there, instead)
    return page


def _name(path: str) -> str:
    return f"kernelscope/{path}"


def _renamed(path: str, text: str) -> str:
    """A module whose imports are names instead of addresses relative to its own."""
    folder = path.split("/")[:-1]

    def named(match: re.Match[str]) -> str:
        parts = list(folder)
        for part in match[2].split("/"):
            if part == "..":
                parts.pop()
            elif part != ".":
                parts.append(part)
        return f'{match[1]}"{_name("/".join(parts))}"'

    return _IMPORT.sub(named, text)


def _data(content_type: str, text: str) -> str:
    return f"data:{content_type};base64,{base64.b64encode(text.encode()).decode()}"


def _json(value: Any) -> str:
    """JSON that cannot end the element that it stands in."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
