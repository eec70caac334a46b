"""A summary of labelled images, on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from training.data.names import SPLITS
from training.data.problems import Problem, named
from training.data.summary import OF_TRAINING, Summary

_MOST_CLASSES: Final = 40
"""Beyond so many classes, only the first have a row."""
_MOST_OF_KIND: Final = 3
"""How many problems of one kind are told before they are only counted."""
_HARMLESS: Final = ("not_an_image", "duplicates", "system_files")


def announce(summary: Summary, console: Console) -> None:
    """Print classes with counts by split, sizes, formats, what was understood, and problems."""
    splits = [split for split in SPLITS if summary.counts[split].sum()]
    table = Table("class", *splits, box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for number, label in enumerate(summary.labels[:_MOST_CLASSES]):
        table.add_row(escape(label), *(f"{summary.counts[split][number]:,}" for split in splits))
    console.print(table)
    if len(summary.labels) > _MOST_CLASSES:
        _say(console, f"and {len(summary.labels) - _MOST_CLASSES:,} classes more")
    counts = ", ".join(f"{summary.counts[split].sum():,} {split}" for split in splits)
    _say(console, f"{escape(summary.name)}: {len(summary.labels):,} classes; images: {counts}")
    if summary.facts:
        facts = summary.facts
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in facts.formats.items())
        (low, high), (tall, wide) = facts.smallest, facts.largest
        sizes = (
            f"{high}x{low}"
            if facts.smallest == facts.largest
            else (f"{high}x{low} to {wide}x{tall}, median {facts.median[1]}x{facts.median[0]}")
        )
        _say(console, f"files: {kinds}; width x height {sizes}")
    _announce_reading(summary.notes, summary.problems, console)


def announce_reading(summary: Summary, console: Console) -> None:
    """Print what was understood of the images, and what was left out; not what matters to training alone."""
    _announce_reading(
        summary.notes, [problem for problem in summary.problems if problem.kind not in OF_TRAINING], console
    )


def _announce_reading(notes: Iterable[str], problems: Iterable[Problem], console: Console) -> None:
    """Print notes, and a few problems of each kind."""
    for note in notes:
        _say(console, escape(note))
    told: Counter[str] = Counter()
    for problem in problems:
        told[problem.kind] += 1
        if told[problem.kind] <= _MOST_OF_KIND:
            colour = "dim" if problem.kind in _HARMLESS else "yellow"
            _say(console, f"[{colour}]{problem.kind.replace('_', ' ')}[/]: {escape(problem.message)}")
    more = [
        f"{count - _MOST_OF_KIND:,} {kind.replace('_', ' ')}" for kind, count in told.items() if count > _MOST_OF_KIND
    ]
    if more:
        _say(console, f"and more of the same: {named(more, len(more))}; kernelscope inspect --json lists all")


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)
