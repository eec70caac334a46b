"""The report's plots, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from contract.preprocessing import Pixels
from training.evaluation.calibrate import Bin
from training.evaluation.evaluate import Evaluation
from training.export.lettering import lettering
from training.loop.progress import Row

_BLUE, _ORANGE, _GREY = "#2f6fb3", "#d9822b", "#8a8f98"
_MOST_NAMES: Final = 40
"""With more classes their names would overlap."""
_SHORT_NAME: Final = 10
"""Characters of a name that have room beside the smallest matrix; more make the figure larger."""
_INCHES_A_CHARACTER: Final = 0.13
_MOST_NUMBERS: Final = 15
_TILES: Final = 24
_STYLE: Final[dict[Any, Any]] = {
    "figure.dpi": 110,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
}


def curves(history: Sequence[Row]) -> bytes:
    """Draw accuracy, loss and learning rate over the epochs."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure((9, 3), layout="constrained")
        accuracy, loss, learning_rate = figure.subplots(1, 3)
        epochs = [row["epoch"] for row in history]
        for axes, name in ((accuracy, "accuracy"), (loss, "loss")):
            axes.plot(epochs, [row[name] for row in history], color=_GREY, label="training, augmented")
            axes.plot(epochs, [row[f"validation_{name}"] for row in history], color=_BLUE, label="validation")
            axes.set_title(name)
        accuracy.yaxis.set_major_formatter("{x:.0%}")
        accuracy.legend(frameon=False)
        learning_rate.plot(epochs, [row["learning_rate"] for row in history], color=_ORANGE)
        learning_rate.set_ylim(bottom=0)
        learning_rate.set_title("learning rate")
        for axes in (accuracy, loss, learning_rate):
            axes.set_xlabel("epoch")
        return _png(figure)


def reliability(before: list[Bin], after: list[Bin]) -> bytes:
    """Draw accuracy over confidence, before and after calibration; on the diagonal they are equal."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure((7, 3.4), layout="constrained")
        for axes, bins, title in zip(figure.subplots(1, 2), (before, after), ("before", "after"), strict=True):
            most = max(row.images for row in bins)
            filled = [row for row in bins if row.images]
            centres = [(place + 0.5) / len(bins) for place, row in enumerate(bins) if row.images]
            # the more images in a bin, the darker its bar: a bin with few images is uncertain
            colours = [(0.18, 0.43, 0.70, 0.25 + 0.75 * (row.images / most) ** 0.3) for row in filled]
            axes.bar(centres, [row.accuracy for row in filled], 0.92 / len(bins), color=colours)
            axes.plot([0, 1], [0, 1], color=_ORANGE, linewidth=1)
            axes.plot([row.confidence for row in filled], [row.accuracy for row in filled], ".", color="black")
            axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
            axes.set_title(f"{title} calibration")
        return _png(figure)


def confusion(matrix: Any, labels: tuple[str, ...]) -> bytes:
    """Draw the confusion matrix: rows are true classes, columns predictions; colours are fractions of a row."""
    fonts, names = lettering(labels)
    with matplotlib.rc_context({**_STYLE, **fonts, "axes.grid": False}):
        beyond = max(0, max(map(len, names)) - _SHORT_NAME) if len(labels) <= _MOST_NAMES else 0
        side = min(12.0, 2.5 + 0.42 * len(labels)) + _INCHES_A_CHARACTER * beyond
        figure = Figure((side, side), layout="constrained")
        axes = figure.subplots()
        share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        axes.imshow(share**0.5, cmap="Blues", vmin=0, vmax=1)  # the root makes single mistakes visible
        axes.set(xlabel="predicted class", ylabel="true class")
        if len(labels) <= _MOST_NAMES:
            axes.set_xticks(range(len(names)), names, rotation=90)
            axes.set_yticks(range(len(names)), names)
        if len(labels) <= _MOST_NUMBERS:
            for row, column in np.argwhere(matrix > 0):
                colour = "white" if share[row, column] > 0.4 else "black"
                axes.text(column, row, matrix[row, column], ha="center", va="center", color=colour, fontsize=7)
        return _png(figure)


def worst_mistakes(score: Evaluation, count: int) -> list[int]:
    """The indices of the misclassified images with the highest confidence, the most confident first."""
    confidence = score.probabilities.max(1)
    wrong = np.flatnonzero(score.probabilities.argmax(1) != score.targets)
    worst: list[int] = wrong[np.argsort(-confidence[wrong], kind="stable")][:count].tolist()
    return worst


def mistakes(score: Evaluation, images: Pixels, labels: tuple[str, ...]) -> bytes | None:
    """Draw the misclassified images with the highest confidence; None where there are none."""
    predicted, confidence = score.probabilities.argmax(1), score.probabilities.max(1)
    worst = worst_mistakes(score, _TILES)
    if not worst:
        return None
    columns = min(8, len(worst))
    rows = -(-len(worst) // columns)
    fonts, names = lettering(labels)
    with matplotlib.rc_context({**_STYLE, **fonts}):
        figure = Figure((1.15 * columns, 1.5 * rows), layout="constrained")
        tiles = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in tiles:
            axes.axis("off")
        for axes, index in zip(tiles, worst, strict=False):
            axes.imshow(images[index])
            label, prediction = names[score.targets[index]], names[predicted[index]]
            axes.set_title(f"{label}\n{prediction}? {confidence[index]:.0%}", fontsize=7)
        return _png(figure)


def _png(figure: Figure) -> bytes:
    out = BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
