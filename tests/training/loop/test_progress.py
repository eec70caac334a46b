"""What a run leaves behind for those who look at it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.loop.progress import COLUMNS, Log, Row


def row(epoch: int, loss: float) -> Row:
    return dict.fromkeys(COLUMNS, 0.5) | {"epoch": epoch, "step": 10 * epoch, "loss": loss, "seconds": 100.0 * epoch}


def test_a_run_that_is_taken_up_tells_each_epoch_once(tmp_path: Path) -> None:
    """It was killed behind its third epoch, before that was saved."""
    console, saved = Console(file=io.StringIO()), [row(1, 0.9), row(2, 0.8)]
    with Log(tmp_path, console, []) as log:
        for epoch in [*saved, row(3, 0.75)]:
            log.epoch(epoch, 4)
    with Log(tmp_path, console, saved) as log:
        log.epoch(row(3, 0.7), 4)
        log.epoch(row(4, 0.6), 4)
    with (tmp_path / "log.csv").open() as file:
        rows = [(line["epoch"], line["loss"]) for line in csv.DictReader(file)]
    assert rows == [("1", "0.9"), ("2", "0.8"), ("3", "0.7"), ("4", "0.6")]
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert set(events.Tags()["tensors"]) == set(COLUMNS[2:])
    losses = events.Tensors("loss")
    assert [event.step for event in losses] == [1, 2, 3, 4]
    assert [round(event.tensor_proto.float_val[0], 3) for event in losses] == [0.9, 0.8, 0.7, 0.6]
    times = [event.wall_time for event in losses]
    assert times[1] - times[0] == pytest.approx(100, abs=1)  # as far apart as they were
    assert times[1] <= times[2] < times[1] + 60
