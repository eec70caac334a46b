"""`kernelscope features`: what a bundle's channels respond to, and its training images' features, put beside it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from contract.bundle import Bundle
from contract.cpu import cores
from contract.errors import UsageError
from contract.network.embedding import embed
from contract.network.errors import CannotExplain
from contract.network.form import Form
from contract.network.graph import Floats
from contract.network.layers import Layer
from contract.network.prepared import Channels, Index, Writer, checksum
from contract.preprocessing import Pixels
from training.data.dataset import Dataset
from training.export import ascent, channels
from training.loop.progress import counting

_COLOURS_FROM: Final = 1000
_BATCH: Final = 64


def make(
    bundle: Bundle,
    dataset: Dataset,
    console: Console,
    *,
    seconds: float,
    steps: int = ascent.STEPS,
    most_images: int | None = None,
    keep_examples: bool = False,
    seed: int = 0,
) -> Path:
    """Write `inside/` beside a bundle.

    Args:
        bundle: of float32, or with its float32 form beside it.
        dataset: the labelled images that it was trained on.
        console: where progress is shown.
        seconds: for making images; channels that are not reached have none. Training images take their own time.
        steps: of the gradient ascent.
        most_images: training images to look at, evenly from all; all where None.
        keep_examples: whether the training images themselves are kept; otherwise only their numbers and file names.
        seed: of the gradient ascent.

    Returns:
        The folder.

    Raises:
        UsageError: the bundle is int8 and has no float32 form.
        CannotExplain: its graph cannot be read.
    """
    if bundle.float32 is None:
        raise UsageError(f"{bundle.folder} is {bundle.card.cost.dtype}: give a float32 bundle, or one with its twin")
    form = Form(bundle.float32, bundle.card.labels)
    count = len(dataset.train)
    numbers = np.linspace(0, count - 1, min(count, most_images or count)).round().astype(np.int64)
    train = dataset.train if len(numbers) == count else dataset.train.take(numbers)
    images = train.images
    writer = Writer(bundle.folder)
    layers = channels.shown(form)
    with counting(console, "training images") as progress:
        examples = channels.examples(form, layers, images, cores(), progress)
    made = _ascend(form, layers, images, console, seconds, steps, seed)
    used: set[int] = set()
    for layer in layers:
        strongest, weakest = examples[layer.id]
        synthetic, reached, stable = made[layer.id]
        used |= {*strongest.images.ravel().tolist(), *weakest.images.ravel().tolist()}
        strongest, weakest = (replace(patches, images=numbers[patches.images]) for patches in (strongest, weakest))
        writer.channels(layer.id, Channels(strongest, weakest, synthetic, reached, stable))
    try:
        with counting(console, "features") as progress:
            vectors = []
            for start in range(0, len(images), _BATCH):
                vectors.append(embed(form, images[start : start + _BATCH]))
                progress(min(start + _BATCH, len(images)), len(images))
        writer.embeddings(np.concatenate(vectors), train.targets, numbers)
        used |= set(range(len(images)))
    except CannotExplain as error:
        console.print(f"no neighbours: {error}", highlight=False, soft_wrap=True)
    if train.names is not None:
        writer.names({int(numbers[place]): train.names[place] for place in sorted(used)})
    if keep_examples:
        writer.thumbnails((int(numbers[place]), images[place]) for place in sorted(used))
    ids = tuple(layer.id for layer in layers)
    return writer.finish(Index(checksum(bundle.folder), dataset.name, count, ids))


def _ascend(
    form: Form, layers: list[Layer], images: Pixels, console: Console, seconds: float, steps: int, seed: int
) -> dict[str, tuple[Pixels, Floats, np.ndarray]]:
    """By layer: images (channels, H, W, 3), what they reached, NaN where none was made, and whether they are stable."""
    some = images[np.linspace(0, len(images) - 1, min(len(images), _COLOURS_FROM)).round().astype(int)]
    colours = ascent.colour_root(some)
    size = form.graph.shapes[form.graph.input][1:]
    made = {}
    batches = []
    for layer in layers:
        assert layer.output is not None  # noqa: S101  # `channels.shown` lists none without
        count = layer.output[2]
        made[layer.id] = (np.zeros((count, *size), np.uint8), np.full(count, np.nan, np.float32), np.zeros(count, bool))
        parts = [list(range(count))[start : start + ascent.BATCH] for start in range(0, count, ascent.BATCH)]
        batches += [(place, layer, part) for place, part in enumerate(parts)]
    batches.sort(key=lambda batch: batch[0])  # where time runs out, every layer has some
    climbers: dict[str, ascent.Ascent] = {}
    until = time.monotonic() + seconds
    with counting(console, "channels") as progress:
        for done, (_, layer, part) in enumerate(batches):
            if time.monotonic() > until:
                break
            if layer.id not in climbers:
                climbers[layer.id] = ascent.Ascent(form.graph, layer, colours, cores(), seed)
            image = climbers[layer.id].make(part, steps)
            synthetic, reached, stable = made[layer.id]
            synthetic[part], reached[part], stable[part] = image.images, image.reached, image.stable
            progress(done + 1, len(batches))
    return made
