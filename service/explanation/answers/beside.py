"""What stands beside the bundle: what channels respond to, and the training images that are nearest to one."""

from __future__ import annotations

import base64
import math
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

import numpy as np

from contract.network.embedding import embed
from contract.network.graph import Floats
from contract.network.layers import Layer
from contract.network.prepared import Examples, Prepared
from service.explanation import render
from service.explanation.answers.reply import Part, as_json, number
from service.explanation.errors import InvalidOption, NotPrepared
from service.explanation.subject import Subject
from service.explanation.tasks import Answer, Task

_COMMAND: Final = "kernelscope features {folder} --data DATA makes it"
_NO_EMBEDDINGS: Final = "this model's head is not linear, so that it has no last features to compare"
_SIDES: Final = ("top", "left", "bottom", "right")
_AT_ONCE: Final = 8192
"""Training images whose features are read at once."""


def features(task: Task, subject: Subject) -> Answer:
    """`GET /models/{model}/features`: what a channel responds to."""
    prepared, options = _prepared(subject), task.options
    layer = _shown(prepared, subject, options.layer)
    channel = options.channel
    if channel is None:
        raise InvalidOption(f"give a channel: {layer.id} has 0 to {(layer.output or (0, 0, 0))[2] - 1}")
    layer.check_channel(channel)
    channels = prepared.channels(layer.id)
    numbers = [*channels.strongest.images[channel].tolist(), *channels.weakest.images[channel].tolist()]
    thumbnails = prepared.thumbnails(numbers)
    classes = _classes(prepared, subject.card.labels)
    size = subject.card.height, subject.card.width

    def listed(examples: Examples) -> list[Part]:
        rows = zip(examples.images[channel], examples.values[channel], examples.places[channel], strict=True)
        return [
            {
                "index": int(image),
                "file": prepared.names.get(int(image)),
                "label": classes.get(int(image)),
                "activation": number(value),
                "row": int(row),
                "column": int(column),
                "region": dict(
                    zip(
                        ("top", "left", "bottom", "right"), layer.field.region(int(row), int(column), size), strict=True
                    )
                ),
                "thumbnail": _data_url(thumbnails.get(int(image)), "jpeg"),
            }
            for image, value, (row, column) in rows
        ]

    reached = float(channels.reached[channel])
    highest = float(channels.strongest.values[channel].max(initial=0.0))
    made = None
    if not math.isnan(reached):
        made = {
            "image": _data_url(render.png(channels.synthetic[channel]), "png"),
            "activation": number(reached),
            "share": number(reached / highest) if highest > 0 else None,
            "stable": bool(channels.stable[channel]),
        }
    return as_json(
        task,
        layer=layer.id,
        channel=channel,
        data=prepared.index.data,
        images=prepared.index.images,
        strongest=listed(channels.strongest),
        weakest=listed(channels.weakest),
        synthetic=made,
    )


def neighbours(task: Task, subject: Subject) -> Answer:
    """`POST /neighbours`: the training images whose last features are nearest to an image's."""
    prepared = _prepared(subject)
    try:
        vectors, targets, numbers = prepared.embeddings()
    except FileNotFoundError:
        raise NotPrepared(_NO_EMBEDDINGS) from None
    (own,) = embed(subject.exact, task.pixels)
    parts = [vectors[start : start + _AT_ONCE].astype(np.float32) @ own for start in range(0, len(vectors), _AT_ONCE)]
    likeness: Floats = np.concatenate(parts)
    nearest = (-likeness).argsort(kind="stable")[: task.options.count].tolist()
    thumbnails = prepared.thumbnails(numbers[nearest].tolist())
    return as_json(
        task,
        data=prepared.index.data,
        images=len(vectors),
        neighbours=[
            {
                "index": int(numbers[place]),
                "file": prepared.names.get(int(numbers[place])),
                "label": subject.card.labels[int(targets[place])],
                "similarity": number(likeness[place]),
                "thumbnail": _data_url(thumbnails.get(int(numbers[place])), "jpeg"),
            }
            for place in nearest
        ],
    )


def stored(subject: Subject) -> tuple[Part, dict[str, str]]:
    """What can be asked for of this model: the layers that `features` shows, and whether there are `neighbours`.

    Returns:
        That, and for what cannot be asked for, why.
    """
    try:
        prepared = _prepared(subject)
    except NotPrepared as error:
        return {"features": [], "neighbours": False}, {"features": str(error), "neighbours": str(error)}
    shown = []
    for layer in subject.exact.layers:
        with suppress(NotPrepared):
            _shown(prepared, subject, layer.id)
            shown.append(layer.id)
    try:
        prepared.embeddings()
    except FileNotFoundError:
        return {"features": shown, "neighbours": False}, {"neighbours": _NO_EMBEDDINGS}
    return {"features": shown, "neighbours": True}, {}


@lru_cache(4)
def _opened(folder: Any, changed: float) -> Prepared:
    return Prepared(folder)


def _prepared(subject: Subject) -> Prepared:
    """What stands beside a model; read anew where it has changed."""
    folder = subject.folder
    command = _COMMAND.format(folder=f"{folder.parent.name}/{folder.name}")
    try:
        return _opened(folder, (folder / "inside").stat().st_mtime)
    except FileNotFoundError:
        raise NotPrepared(f"nothing was prepared for this model: {command}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise NotPrepared(f"what was prepared for this model cannot be used ({error}): {command} anew") from None


def _shown(prepared: Prepared, subject: Subject, name: str | None) -> Layer:
    """A layer whose channels are shown: that one, or the convolution before that activation."""
    form = subject.exact
    layer = form.layers.find(name or "")
    if layer.id not in prepared.index.layers and layer.kind == "activation" and len(layer.inputs) == 1:
        before = form.layers.find(layer.inputs[0])
        layer = before if before.id in prepared.index.layers else layer
    if layer.id not in prepared.index.layers:
        raise NotPrepared(f"{layer.id} has no channels to show: choose from {', '.join(prepared.index.layers)}")
    return layer


def _classes(prepared: Prepared, labels: tuple[str, ...]) -> dict[int, str]:
    """The class of each training image, by its number; none where they were not written."""
    try:
        _, targets, numbers = prepared.embeddings()
    except FileNotFoundError:
        return {}
    return {number: labels[target] for number, target in zip(numbers.tolist(), targets.tolist(), strict=True)}


def _data_url(data: bytes | None, kind: str) -> str | None:
    return None if data is None else f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
