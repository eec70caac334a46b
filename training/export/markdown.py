"""Text of any kind as Markdown shows it: as it is, whatever it holds."""

from __future__ import annotations

import re
from typing import Final

_SPECIAL: Final = re.compile(r"[\\`*\[\]<>|~&$]|(?<![^\W_])_|_(?![^\W_])")
"""What CommonMark or GitHub's tables and formulas take for markup; an underscore inside a word is none."""


def text(plain: str) -> str:
    r"""A text in a paragraph or a table's cell, its markup escaped (CommonMark 2.4).

    Example:
        >>> print(text("<b>|cat_1_"))
        \<b\>\|cat_1\_
    """
    return _SPECIAL.sub(lambda match: f"\\{match[0]}", plain)


def code(plain: str) -> str:
    """A text as code, between more backticks than it holds in a row (CommonMark 6.1).

    Example:
        >>> code("a `b`")
        '`` a `b` ``'
    """
    if "`" not in plain:
        return f"`{plain}`"
    fence = "`" * (1 + max(len(run) for run in re.findall("`+", plain)))
    return f"{fence} {plain} {fence}"
