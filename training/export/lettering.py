"""Class names as they are drawn: in fonts that have their characters, cut where they are long."""

from __future__ import annotations

import unicodedata
from typing import Any, Final

from matplotlib import font_manager

FONT: Final = "DejaVu Sans"
_JOINERS: Final = "\u200c\u200d"
"""They say which letters are joined, as in Persian; matplotlib's own font has them."""
MOST_CHARACTERS: Final = 24
"""A longer name would leave no room for what it names."""


def lettering(labels: tuple[str, ...]) -> tuple[dict[Any, Any], list[str]]:
    """Fonts that have the names' characters between them, and the names as they are drawn.

    Matplotlib's own font has no Chinese, say; one that is installed may. A name that none can write is its number.

    Returns:
        Settings for `matplotlib.rc_context`, and one text a label.
    """
    shown = [_shown(label) for label in labels]
    families, missing = [FONT], {ord(character) for text in shown for character in text}
    missing -= _characters(font_manager.findfont(FONT))
    for font in font_manager.fontManager.ttflist:
        if not missing:
            break
        plain = (font.style, font.variant, str(font.weight)) in (("normal", "normal", "400"), ("normal",) * 3)
        letters = not any(word in font.name.lower() for word in ("emoji", "last resort"))  # bitmaps, and boxes for all
        covered = missing & _characters(font.fname) if plain and letters else set()
        if covered:
            families.append(font.name)
            missing -= covered
    names = [
        # what stands between dollars would be taken for a formula
        f"class {index}" if missing & {ord(character) for character in text} else text.replace("$", r"\$")
        for index, text in enumerate(shown)
    ]
    return {"font.family": families}, names


def _shown(label: str) -> str:
    """A label with plain blanks, without marks that have no shape and shape no other, and cut to length."""
    kept = [
        " " if unicodedata.category(character) == "Zs" else character
        for character in label
        if unicodedata.category(character) != "Cf" or character in _JOINERS
    ]
    if len(kept) > MOST_CHARACTERS:
        half = (MOST_CHARACTERS - 1) // 2  # the ends of names differ as often as their beginnings do
        kept = [*kept[: MOST_CHARACTERS - 1 - half], "…", *kept[-half:]]
    return "".join(kept)


def _characters(font: str) -> set[int]:
    try:
        return set(font_manager.get_font(font).get_charmap())
    except (OSError, RuntimeError):  # matplotlib remembers fonts that have been removed, or are none
        return set()
