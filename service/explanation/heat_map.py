"""What a method gives to the places of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from contract.network.graph import Floats

Pair = tuple[int, int]


@dataclass(frozen=True)
class HeatMap:
    """Signed values of cells that lie over an image.

    Attributes:
        values: float32 (rows, columns); what is above zero speaks for the answer.
        origin: the first row and column of pixels of the first cell; may be negative.
        step: pixels from one cell to the next.
        size: a cell's height and width in pixels; cells may overlap.
    """

    values: Floats
    origin: Pair = (0, 0)
    step: Pair = (1, 1)
    size: Pair = (1, 1)

    @property
    def scale(self) -> float:
        """The largest magnitude: what has the full colour."""
        return float(np.abs(self.values).max(initial=0.0))

    def describe(self) -> dict[str, Any]:
        """For a reply."""
        return {
            "values": rounded(self.values),
            "scale": self.scale,
            "origin": self.origin,
            "step": self.step,
            "size": self.size,
        }

    def pixels(self, height: int, width: int) -> Floats:
        """A value for each pixel, float32 (height, width): the mean of the cells over it, 0 where none is."""
        total, count = np.zeros((height, width)), np.zeros((height, width))
        for (row, column), value in np.ndenumerate(self.values):
            top, left = self.origin[0] + row * self.step[0], self.origin[1] + column * self.step[1]
            part = np.s_[max(0, top) : max(0, top + self.size[0]), max(0, left) : max(0, left + self.size[1])]
            total[part] += value
            count[part] += 1
        return np.asarray(total / np.maximum(count, 1), np.float32)


def rounded(values: Floats, digits: int = 7) -> Any:
    """Nested lists of an array's values, with as many digits as float32 has, counted from the largest."""
    largest = float(np.abs(values).max(initial=0.0))
    places = digits - 1 - int(np.floor(np.log10(largest))) if largest > 0 and np.isfinite(largest) else 0
    return np.round(values.astype(np.float64), places).tolist()
