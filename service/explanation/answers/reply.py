"""Replies: JSON whose numbers have the digits of float32, and PNG with what its pixels mean in the headers."""

from __future__ import annotations

import json
from typing import Any

from contract.network.errors import CannotExplain
from service.explanation import render
from service.explanation.tasks import Answer, Task

Part = dict[str, Any]


def as_json(task: Task, **content: Any) -> Answer:
    """The model's name and version, and some content.

    Raises:
        CannotExplain: there is an infinity or a NaN in it.
    """
    try:
        body = json.dumps({"model": task.model, "version": task.version, **content}, allow_nan=False)
    except ValueError:
        raise CannotExplain("the model computes values that are no numbers for this image") from None
    return Answer(body.encode(), "application/json")


def as_png(data: bytes, headers: Part) -> Answer:
    """An image, with headers `X-Kernelscope-<name>`."""
    return Answer(data, "image/png", named(headers))


def as_sheet(sheet: render.Sheet, headers: Part) -> Answer:
    """A sheet of tiles, with headers that say where they are and what has the full colour."""
    rows, columns = sheet.tile
    more = {"Scale": f"{sheet.scale:.7g}", "Columns": sheet.columns, "Tile": f"{rows},{columns}"}
    return as_png(sheet.png, {**headers, **more})


def named(values: Part) -> dict[str, str]:
    """Headers `X-Kernelscope-<name>`."""
    return {f"X-Kernelscope-{name}": str(value) for name, value in values.items()}


def number(value: Any) -> float:
    """A number with as many digits as float32 has, and two more."""
    return float(f"{float(value):.9g}")
