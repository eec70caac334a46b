"""A run's progress bar and logs: `log.csv` and TensorBoard event files."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

COLUMNS = (
    "epoch",
    "step",
    "loss",
    "accuracy",
    "validation_loss",
    "validation_accuracy",
    "validation_jpeg_accuracy",
    "learning_rate",
    "seconds",
)
Row = dict[str, Any]
"""One epoch: `COLUMNS` and their values."""


def bar(console: Console) -> Progress:
    """Make a progress bar with the time left; it is drawn on a terminal only."""
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("elapsed, left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )


@contextmanager
def counting(console: Console, title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar for work of unknown size; yields a function that is called with done and total."""
    with bar(console) as progress:
        task = progress.add_task(title, total=None, note="")
        yield lambda done, total: progress.update(task, completed=done, total=total)


class Log:
    """A run's log, on the console and in its folder.

    Args:
        folder: for `log.csv` and, where TensorBoard is installed, the event files.
        console: gets a line after each epoch and, on a terminal, a progress bar.
        history: the epochs of the checkpoint that the run continues from; the logs are cut back to these.
    """

    def __init__(self, folder: Path, console: Console, history: list[Row]) -> None:
        self.console = console
        self.progress = bar(console)
        self.path = folder / "log.csv"
        folder.mkdir(parents=True, exist_ok=True)
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(history)
        for old in (folder / "events").glob("*tfevents*"):  # they may have an epoch more than the checkpoint
            old.unlink()
        self.events = _event_writer(folder / "events")
        now = time.time()
        for row in history:
            self._write_events(row, now - history[-1]["seconds"] + row["seconds"])
        self.task = self.progress.add_task("training", total=1, note="")

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()
        if self.events:
            self.events.close()

    def step(self, done: int, total: int, note: str) -> None:
        """Show a step: steps done, steps in all as estimated, and the figures to show."""
        self.progress.update(self.task, completed=done, total=total, note=note)

    def epoch(self, row: Row, epochs: int) -> None:
        """Log an epoch: its row, and the number of epochs planned."""
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow(row)
        self._write_events(row)
        jpeg = row.get("validation_jpeg_accuracy")
        as_jpeg = "" if jpeg is None else f" ({jpeg:.2%} as JPEG)"
        self.console.print(
            f"epoch {row['epoch']:>3}/{epochs}  loss {row['loss']:.4f}  accuracy {row['accuracy']:.2%}  "
            f"validation {row['validation_accuracy']:.2%}{as_jpeg}  {row['seconds']:.0f} s",
            highlight=False,
        )

    def _write_events(self, row: Row, wall_time: float | None = None) -> None:
        """Write an epoch's events, at the given wall time or now."""
        if not self.events:
            return
        for name in (name for name in COLUMNS[2:] if row.get(name) is not None):
            self.events.add_scalar(name, row[name], step=row["epoch"], wall_time=wall_time)
        self.events.flush()


def _event_writer(folder: Path) -> Any:
    """TensorBoard's writer, which works without TensorFlow; None where TensorBoard is not installed."""
    if find_spec("tensorboard") is None:
        return None
    from tensorboard.summary import Writer

    return Writer(str(folder))
