"""Text that clients and files have a say in, as it may stand in a log."""

from __future__ import annotations

import re
from typing import Final

_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""What moves a terminal's cursor, ends a line for some readers, turns the direction of text, or is no text."""


def escaped(text: str) -> str:
    r"""The text, with escapes, as JSON has them, for characters that are not to be taken for what they are.

    Example:
        >>> escaped("a\x1b[2J\u2028b")
        'a\\u001b[2J\\u2028b'
    """
    return text if text.isascii() and text.isprintable() else _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
