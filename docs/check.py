"""See that the built site asks no other host for anything: `python docs/check.py site`."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path

LOADS = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src"), ("use", "href")}


class Loads(HTMLParser):
    """The addresses of other hosts that a page would load from."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at one tag."""
        named = dict(attrs)
        if tag == "link" and named.get("rel") in ("canonical", "prev", "next", "alternate"):
            return  # an address, which nothing is loaded from
        for name, value in attrs:
            if (tag, name) in LOADS and (value or "").startswith(("http:", "https:", "//")):
                self.found.append(f"<{tag} {name}={value}>")


def main() -> int:
    """Print what would be loaded from elsewhere; returns 1 where anything is."""
    site = Path(sys.argv[1])
    pages = sorted(site.rglob("*.html"))
    found = []
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        found += [f"{page}: {load}" for load in loads.found]
    styles = sorted(site.rglob("*.css"))
    found += [f"{style}: @import or url of another host" for style in styles if "url(http" in style.read_text()]
    print("\n".join(found) or f"{len(pages)} pages ask no other host")
    return 1 if found or not pages else 0


if __name__ == "__main__":
    sys.exit(main())
