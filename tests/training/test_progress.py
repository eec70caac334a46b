"""What a run leaves behind for those who look at it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.progress import COLUMNS, Log, Row


def row(epoch: int, loss: float) -> Row:
    return dict.fromkeys(COLUMNS, 0.5) | {"epoch": epoch, "step": 10 * epoch, "loss": loss}


def test_a_run_that_is_taken_up_tells_each_epoch_once(tmp_path: Path) -> None:
    """It was killed behind its second epoch, before that was saved."""
    console, first = Console(file=io.StringIO()), row(1, 0.9)
    with Log(tmp_path, console, []) as log:
        log.epoch(first, 3)
        log.epoch(row(2, 0.8), 3)
    with Log(tmp_path, console, [first]) as log:
        log.epoch(row(2, 0.7), 3)
        log.epoch(row(3, 0.6), 3)
    with (tmp_path / "log.csv").open() as file:
        assert [(one["epoch"], one["loss"]) for one in csv.DictReader(file)] == [
            ("1", "0.9"),
            ("2", "0.7"),
            ("3", "0.6"),
        ]
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert set(events.Tags()["tensors"]) == set(COLUMNS[2:])
    assert [event.step for event in events.Tensors("loss")] == [1, 2, 3]
    losses = [event.tensor_proto.float_val[0] for event in events.Tensors("loss")]
    assert [round(loss, 3) for loss in losses] == [0.9, 0.7, 0.6]
