"""What each channel and each position of the last maps adds to a logit: exact where the head is linear.

After Zhou et al. 2016 (arXiv:1512.04150), for a mean over the maps, a maximum over them, or weights of each position. A
maximum counts where it is; where it is several times, these share.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from contract import bundle
from contract.network import head, sessions
from contract.network.form import Form
from contract.network.gradient import Gradient
from contract.network.graph import Floats
from contract.network.head import Pooling
from contract.network.layers import IMAGES
from contract.network.receptive_field import Field
from contract.preprocessing import Pixels
from service.explanation.heat_map import HeatMap
from service.explanation.question import Question

_VALUES_AT_ONCE: Final = 2**22
"""Values of maps that are run through the head at once."""


@dataclass(frozen=True)
class Contributions:
    """What the last maps add to a score.

    Attributes:
        layer: the id of the layer that gives the maps.
        pooling: how the head takes the positions together.
        maps: float32 (rows, columns, channels).
        values: what each of their values adds, in the same shape.
        bias: the score with all maps at zero.
        score: the logit, or the difference of two, as it is served.
        field: the receptive field of a position.
    """

    layer: str
    pooling: Pooling
    maps: Floats
    values: Floats
    bias: float
    score: float
    field: Field

    @property
    def by_channel(self) -> Floats:
        """float32 (channels)."""
        return np.asarray(self.values.sum((0, 1), dtype=np.float64), np.float32)

    @property
    def sum(self) -> float:
        """What all maps add together."""
        return float(self.values.sum(dtype=np.float64))

    @property
    def rounding(self) -> float:
        """What the score differs from the sum and the bias by: float32's rounding, and int8's where that is served."""
        return self.score - self.sum - self.bias

    def heat_map(self) -> HeatMap:
        """By position; a cell is as large as the step from one position to the next, about its field's middle."""
        size, jump, origin = self.field.size, self.field.jump, self.field.origin
        start = origin[0] + (size[0] - jump[0]) // 2, origin[1] + (size[1] - jump[1]) // 2
        return HeatMap(np.asarray(self.values.sum(2), np.float32), start, jump, jump)


class Head:
    """What computes the logits from the last maps.

    Args:
        form: the model.

    Raises:
        CannotExplain: it is not linear in them.
    """

    def __init__(self, form: Form) -> None:
        self._form = form
        self.tensor, self.pooling = head.find(form.graph, form.score)
        layer = form.layers.giving(self.tensor)
        self.layer = layer.id if layer else IMAGES
        self.field = layer.field if layer else Field()
        self._part = form.graph.between(self.tensor, [form.score])
        self._plain = sessions.session(self._part.to_proto())

    @cached_property
    def _gradient(self) -> Gradient:
        return Gradient(self._part, self._form.score, [self.tensor])

    @cached_property
    def _served(self) -> tuple[Any, list[str]]:
        outputs = [self._form.score, bundle.PROBABILITIES]
        part = self._form.served.between(self.tensor, outputs)
        return sessions.session(part.to_proto(), literal=self._form.dtype == "int8"), outputs

    def contributions(self, image: Pixels, question: Question) -> Contributions:
        """Decompose the score of an image, uint8 (1, H, W, 3)."""
        form = self._form
        logits, _ = form.answers(image)
        weights = question.weights(logits.shape[1])
        (maps,) = form.tensors(image, [self.tensor])
        _, _, (gradient,) = self._gradient(maps, weights)
        (nothing,) = self._plain.run(None, {self.tensor: np.zeros_like(maps)})
        as_images = form.graph.as_images
        return Contributions(
            layer=self.layer,
            pooling=self.pooling,
            maps=as_images(self.tensor, maps)[0],
            values=as_images(self.tensor, maps * gradient)[0],
            bias=float(nothing[0] @ weights),
            score=float(logits[0] @ weights),
            field=self.field,
        )

    def support(self, maps: Floats, channels: list[int]) -> Floats:
        """What channels of maps (rows, columns, channels) add to every class, float32 (len(channels), classes)."""

        def alone(channel: int) -> Floats:
            kept = np.zeros_like(maps)
            kept[:, :, channel] = maps[:, :, channel]
            return kept

        (logits,) = self._run(
            self._plain, [self._form.score], itertools.chain([np.zeros_like(maps)], map(alone, channels))
        )
        return np.asarray(logits[1:] - logits[0], np.float32)

    def without(self, maps: Floats, channels: list[list[int]]) -> tuple[Floats, Floats]:
        """Logits and probabilities, as they are served, with sets of channels switched off; one row a set."""

        def changed(off: list[int]) -> Floats:
            kept = maps.copy()
            kept[:, :, off] = 0
            return kept

        session, outputs = self._served
        logits, probabilities = self._run(session, outputs, map(changed, channels))
        return logits, probabilities

    def _run(self, session: Any, outputs: list[str], maps: Iterable[Floats]) -> list[Floats]:
        """Run the head on maps, (rows, columns, channels) each, as many at once as memory is meant for."""
        size = max(1, _VALUES_AT_ONCE // math.prod(self._form.graph.shapes[self.tensor][1:]))
        parts = []
        waiting = iter(maps)
        while part := list(itertools.islice(waiting, size)):
            laid_out = np.ascontiguousarray(self._form.graph.from_images(self.tensor, np.stack(part)))
            parts.append(session.run(outputs, {self.tensor: laid_out}))
        return [np.concatenate(values) for values in zip(*parts, strict=True)]
