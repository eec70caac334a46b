"""What there is to see in a network: its layers, its kernels, and the maps of an image."""

from __future__ import annotations

from typing import Final

import numpy as np

from contract.network.errors import CannotExplain, UnknownChannel
from contract.network.form import Form
from contract.network.graph import Floats
from contract.network.layers import IMAGES, Layer
from contract.preprocessing import Pixels
from service.explanation import arithmetic, methods, render
from service.explanation.answers import beside
from service.explanation.answers.reply import Part, as_json, as_sheet, named, number
from service.explanation.errors import InvalidOption
from service.explanation.heat_map import rounded
from service.explanation.subject import Subject
from service.explanation.tasks import Answer, Options, Task

_MOST_VALUES: Final = 2**20
"""Values that are sent as JSON at most."""


def activations(task: Task, subject: Subject) -> Answer:
    """`POST /activations`: the maps of a layer, or the arithmetic of one of its values."""
    form, image, options = subject.served, task.pixels, task.options
    if options.layer == IMAGES and options.unit is None:
        return _seen(task)
    layer = _layer(subject, options)
    if options.unit is not None:
        return as_json(task, graph="served", **arithmetic.explain(form, image, layer, options.unit))
    maps = _maps(form, layer, image)
    largest = float(np.abs(maps).max(initial=0.0))
    channels = list(range(len(maps))) if options.channel is None else [options.channel]
    if options.channel is not None:
        layer.check_channel(options.channel)
    shown = maps[channels]
    headers = {"Shape": ",".join(map(str, layer.output or ())), "Graph": "served"}
    if task.form == "binary":
        return Answer(shown.astype("<f4").tobytes(), "application/octet-stream", named(headers))
    if task.form == "png":
        return as_sheet(render.contact_sheet(shown, scale=largest), headers)
    if shown.size > _MOST_VALUES:
        raise InvalidOption(
            f"{layer.id} has {shown.size:,} values, {_MOST_VALUES:,} are sent as JSON at most: ask for one channel, or "
            "for application/octet-stream or image/png"
        )
    return as_json(
        task,
        graph="served",
        layer=layer.id,
        shape=layer.output,
        minimum=number(maps.min()),
        maximum=number(maps.max()),
        zeros=round(float((maps == 0).mean()), 6),
        channels=[_summary(channel, maps[channel]) for channel in channels],
        maps=rounded(shown),
    )


def _seen(task: Task) -> Answer:
    """What the network sees of an image: as a PNG of that size, or its red, green and blue as maps."""
    (image,) = task.pixels
    headers = named({"Shape": ",".join(map(str, image.shape)), "Graph": "served"})
    if task.form == "png":
        return Answer(render.png(image), "image/png", headers)
    maps = np.ascontiguousarray(image.transpose(2, 0, 1))
    if task.options.channel is not None and task.options.channel >= len(maps):
        raise UnknownChannel(f"{IMAGES} has no channel {task.options.channel}: its channels are 0 to {len(maps) - 1}")
    channels = list(range(len(maps))) if task.options.channel is None else [task.options.channel]
    if task.form == "binary":
        return Answer(maps[channels].astype("<f4").tobytes(), "application/octet-stream", headers)
    return as_json(
        task,
        graph="served",
        layer=IMAGES,
        shape=list(image.shape),
        minimum=number(maps.min()),
        maximum=number(maps.max()),
        zeros=round(float((maps == 0).mean()), 6),
        channels=[_summary(channel, maps[channel].astype(np.float32)) for channel in channels],
        maps=maps[channels].tolist(),
    )


def _summary(channel: int, values: Floats) -> Part:
    row, column = divmod(int(values.argmax()), values.shape[1])
    return {
        "channel": channel,
        "minimum": number(values.min()),
        "maximum": number(values.max()),
        "mean": number(values.mean(dtype=np.float64)),
        "row": row,
        "column": column,
    }


def layers(task: Task, subject: Subject) -> Answer:
    """`GET /models/{model}/layers`: the network, layer by layer, and which methods explain it."""
    form = subject.served
    against = methods.obstacles(subject)
    stored, missing = beside.stored(subject)
    layers = [layer.describe() for layer in form.layers]
    return as_json(
        task,
        input=[subject.card.height, subject.card.width, 3],
        graph="served",
        dtype=form.dtype,
        methods=[name for name in methods.METHODS if name not in against],
        cannot={**against, **missing},
        stored=stored,
        totals={
            "parameters": sum(layer.parameters for layer in form.layers),
            "multiply_adds": sum(layer.multiply_adds for layer in form.layers),
        },
        layers=layers,
    )


def kernels(task: Task, subject: Subject) -> Answer:
    """`GET /models/{model}/kernels`: the weights of a convolution."""
    form, channel = subject.served, task.options.channel
    layer = _layer(subject, task.options)
    weights, bias = _weights(form, layer)
    if channel is not None:
        layer.check_channel(channel)
    kept = slice(None) if channel is None else slice(channel, channel + 1)
    shown, scale = weights[kept], float(np.abs(weights).max(initial=0.0))
    shape = [len(weights), *weights.shape[2:], weights.shape[1]]
    if task.form == "json":
        if shown.size > _MOST_VALUES:
            raise InvalidOption(f"{layer.id} has {shown.size:,} weights: ask for one kernel with channel, or image/png")
        return as_json(
            task,
            layer=layer.id,
            shape=shape,
            scale=scale,
            kernels=rounded(shown),
            bias=None if bias is None else rounded(bias[kept]),
        )
    headers = {"Shape": ",".join(map(str, shape))}
    if _reads_colours(form, layer):
        return as_sheet(render.colour_kernels(shown.transpose(0, 2, 3, 1)), headers)
    if channel is not None:
        return as_sheet(render.contact_sheet(shown[0], "weights", scale=scale), headers)
    return as_sheet(render.kernel_table(shown, scale=scale), headers)


def _weights(form: Form, layer: Layer) -> tuple[Floats, Floats | None]:
    """Kernels, float32 (kernels, channels, rows, columns), and biases; as integers stand for them where it is int8."""
    if layer.kind != "convolution" or layer.node.operator != "Conv" or layer.window is None:
        names = [
            convolution.id
            for convolution in form.layers
            if convolution.kind == "convolution" and convolution.node.operator == "Conv"
        ]
        raise CannotExplain(f"{layer.id} has no kernels: choose from {', '.join(names) or 'none'}")
    reads = [*layer.node.reads, ""]
    bias = form.served.constants[reads[2]].astype(np.float32) if reads[2] else None
    return form.served.constants[reads[1]].astype(np.float32), bias


def _reads_colours(form: Form, layer: Layer) -> bool:
    """Whether a layer reads the image's red, green and blue, each by itself."""
    while layer.inputs:
        (source, *others) = layer.inputs
        if source == IMAGES:
            return layer.input is not None and layer.input[2] == 3
        layer = form.layers.find(source)
        if others or layer.kind not in ("scaling", "normalisation"):
            return False
    return False


def _layer(subject: Subject, options: Options) -> Layer:
    if options.layer is None:
        raise InvalidOption(f"give a layer: {', '.join(layer.id for layer in subject.served.layers)}")
    return subject.served.layers.find(options.layer)


def _maps(form: Form, layer: Layer, image: Pixels) -> Floats:
    """The maps of a layer, float32 (channels, rows, columns)."""
    return np.ascontiguousarray(form.maps(layer, image)[0].transpose(2, 0, 1))
