"""A few images of each class on one sheet, as the network will see them."""

from __future__ import annotations

from io import BytesIO
from typing import Final

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from contract import preprocessing
from contract.preprocessing import Pixels
from training.data.split import Split
from training.export.lettering import lettering

MOST_CLASSES: Final = 40
"""Classes beyond these are not on the sheet, so that it stays one."""
_COLUMNS: Final = 10
_TILE: Final = 72
_GAP: Final = 4
_DPI: Final = 100


def draw(labels: tuple[str, ...], splits: dict[str, Split]) -> bytes:
    """A PNG with a row a class, its name before it.

    Args:
        labels: the class names; the first `MOST_CLASSES` are drawn.
        splits: the images; those for training are taken first, evenly from all there are.
    """
    fonts, names = lettering(labels[:MOST_CLASSES])
    step = _TILE + _GAP
    sheet = np.full((len(names) * step, _COLUMNS * step, 3), 255, np.uint8)
    for row in range(len(names)):
        for column, image in enumerate(_some(splits, row)):
            top, left = row * step, column * step
            sheet[top : top + _TILE, left : left + _TILE] = image
    with matplotlib.rc_context({**fonts, "font.size": 9}):
        figure = Figure((sheet.shape[1] / _DPI + 2.2, sheet.shape[0] / _DPI + 0.3), dpi=_DPI, layout="constrained")
        axes = figure.subplots()
        axes.imshow(sheet)
        axes.set_xticks([])
        axes.set_yticks([row * step + _TILE / 2 for row in range(len(names))], names)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        out = BytesIO()
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _some(splits: dict[str, Split], target: int) -> list[Pixels]:
    """Up to `_COLUMNS` images of a class, as tiles."""
    images: list[Pixels] = []
    for split in splits.values():
        of_class = np.flatnonzero(split.targets == target)
        wanted = min(_COLUMNS - len(images), len(of_class))
        chosen = of_class[np.linspace(0, len(of_class) - 1, wanted).astype(int)] if wanted else of_class[:0]
        for image in split.images[chosen]:
            made = Image.fromarray(image)
            made.thumbnail((_TILE, _TILE))
            images.append(preprocessing.resize(made, _TILE, _TILE, "letterbox"))
    return images
