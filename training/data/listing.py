"""What a source holds: names, and how to get the bytes behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from contract import formats
from training.data.problems import Problem

TABLES: Final = (".csv", ".tsv")
"""How the names of tables of labels end."""


@dataclass(frozen=True)
class Entry:
    """A file or a folder of a source.

    Attributes:
        name: its path in the source, parts separated by `/`.
        kind: `folder`, `image` (by name or first bytes), `table` (by name) or `other`.
        read: its bytes; nothing for a folder. Raises `OSError` or `ImageError` where it cannot be read.
    """

    name: str
    kind: str
    read: Callable[[], bytes] = bytes


@dataclass
class Listing:
    """What is in a source, and what is wrong with it."""

    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def names(self, *kinds: str) -> list[str]:
        """Of the entries of those kinds."""
        return [entry.name for entry in self.entries if entry.kind in kinds]


def is_known(name: str) -> bool:
    """Whether a file's name alone tells what it is."""
    return formats.is_image(name, b"") or name.lower().endswith(TABLES)


def kind(name: str, head: bytes) -> str:
    """What a file is, by its name and its first bytes: `image`, `table` or `other`."""
    if formats.is_image(name, head):
        return "image"
    return "table" if name.lower().endswith(TABLES) else "other"
