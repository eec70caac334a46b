"""Gradient × activation at a layer, summed over channels (HiResCAM, Draelos and Carin 2020, arXiv:2011.08891).

Each value of a map times the slope of the score by it. At the last maps of a linear head that is exactly what a value
adds; further down, only to first order. Grad-CAM averages the slopes over the map first, which shows places that had no
part in the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from contract.network.errors import CannotExplain
from contract.network.form import Form
from contract.network.graph import Floats
from contract.network.layers import Layer
from contract.preprocessing import Pixels
from service.explanation.heat_map import HeatMap
from service.explanation.question import Question

FINE: Final = 7
"""Positions on a side that a layer has at least to be chosen unless one is named."""


@dataclass(frozen=True)
class GradientActivation:
    """What a layer's values speak for, to first order.

    Attributes:
        layer: the layer.
        values: float32 (rows, columns, channels).
        score: the logit, or the difference of two.
    """

    layer: Layer
    values: Floats
    score: float

    @property
    def sum(self) -> float:
        """Of all values; with the biases further on times their own slopes, a ReLU network's score."""
        return float(self.values.sum(dtype=np.float64))

    def heat_map(self) -> HeatMap:
        """By position; a cell is as large as the step from one position to the next, about its field's middle."""
        field = self.layer.field
        start = [
            origin + (size - jump) // 2 for origin, size, jump in zip(field.origin, field.size, field.jump, strict=True)
        ]
        return HeatMap(np.asarray(self.values.sum(2), np.float32), (start[0], start[1]), field.jump, field.jump)


def explain(form: Form, image: Pixels, question: Question, layer: Layer) -> GradientActivation:
    """Multiply a layer's values for an image, uint8 (1, H, W, 3), with their gradients.

    Raises:
        CannotExplain: the layer is none that the logits come from, or an operator has no gradient.
    """
    if layer.tensor not in form.gradient.by:
        raise CannotExplain(f"{layer.id} has no gradient: it lies behind the logits, or is these")
    classes = form.graph.shapes[form.score][-1]
    weights = question.weights(classes)
    logits, (maps,), (slopes,) = form.gradient(image, weights, layer.tensor)
    values = form.graph.as_images(layer.tensor, maps * slopes)[0]
    return GradientActivation(layer, np.asarray(values, np.float32), float(logits[0] @ weights))


def usual_layer(form: Form) -> Layer:
    """The last layer of `FINE` positions on a side or more that has a gradient; its activation, if it has one.

    Raises:
        CannotExplain: no layer has a map.
    """
    maps = [
        layer
        for layer in form.layers
        if layer.tensor in form.gradient.by and layer.output and min(layer.output[:2]) > 1
    ]
    fine = [layer for layer in maps if layer.output and min(layer.output[:2]) >= FINE] or maps[-1:]
    if not fine:
        raise CannotExplain("no layer of this model has a map of positions: use occlusion or integrated_gradients")
    activations = [layer for layer in fine if layer.kind == "activation"]
    same = [layer for layer in activations if layer.output == fine[-1].output]
    return (same or fine)[-1]
