"""The report's plots, as PNG files."""

from __future__ import annotations

from io import BytesIO
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure

from contract.preprocessing import Pixels
from training.evaluation.calibrate import Bin
from training.evaluation.evaluate import Evaluation
from training.loop.progress import Row

_BLUE, _ORANGE, _GREY = "#2f6fb3", "#d9822b", "#8a8f98"
_MOST_NAMES: Final = 40
"""Beyond so many classes their names would cover each other."""
_MOST_NUMBERS: Final = 15
_TILES: Final = 24
_FONT: Final = "DejaVu Sans"
_STYLE: Final[dict[Any, Any]] = {
    "figure.dpi": 110,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
}


def curves(history: list[Row]) -> bytes:
    """Accuracy, loss and learning rate, epoch by epoch."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure((9, 3), layout="constrained")
        accuracy, loss, rate = figure.subplots(1, 3)
        epochs = [row["epoch"] for row in history]
        for axes, name in ((accuracy, "accuracy"), (loss, "loss")):
            axes.plot(epochs, [row[name] for row in history], color=_GREY, label="training, as augmented")
            axes.plot(epochs, [row[f"validation_{name}"] for row in history], color=_BLUE, label="held out")
            axes.set_title(name)
        accuracy.yaxis.set_major_formatter("{x:.0%}")
        accuracy.legend(frameon=False)
        rate.plot(epochs, [row["rate"] for row in history], color=_ORANGE)
        rate.set_ylim(bottom=0)
        rate.set_title("learning rate")
        for axes in (accuracy, loss, rate):
            axes.set_xlabel("epoch")
        return _png(figure)


def reliability(before: list[Bin], after: list[Bin]) -> bytes:
    """Accuracy over confidence, before and after the temperature; on the diagonal they are the same."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure((7, 3.4), layout="constrained")
        for axes, bins, title in zip(figure.subplots(1, 2), (before, after), ("before", "after"), strict=True):
            most = max(one.images for one in bins)
            full = [one for one in bins if one.images]
            places = [(place + 0.5) / len(bins) for place, one in enumerate(bins) if one.images]
            # the fuller the bin, the darker its bar: nearly empty ones say little
            colours = [(0.18, 0.43, 0.70, 0.25 + 0.75 * (one.images / most) ** 0.3) for one in full]
            axes.bar(places, [one.accuracy for one in full], 0.92 / len(bins), color=colours)
            axes.plot([0, 1], [0, 1], color=_ORANGE, linewidth=1)
            axes.plot([one.confidence for one in full], [one.accuracy for one in full], ".", color="black")
            axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability of the answer", ylabel="share answered right")
            axes.set_title(f"{title} the temperature")
        return _png(figure)


def confusion(matrix: Any, labels: tuple[str, ...]) -> bytes:
    """Rows are labels, columns answers; each row's shares."""
    fonts, names = _lettering(labels)
    with matplotlib.rc_context({**_STYLE, **fonts, "axes.grid": False}):
        side = min(12.0, 2.5 + 0.42 * len(labels))
        figure = Figure((side, side), layout="constrained")
        axes = figure.subplots()
        share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        axes.imshow(share**0.5, cmap="Blues", vmin=0, vmax=1)  # the root, or single mistakes would not be seen
        axes.set(xlabel="answer", ylabel="label")
        if len(labels) <= _MOST_NAMES:
            axes.set_xticks(range(len(names)), names, rotation=90)
            axes.set_yticks(range(len(names)), names)
        if len(labels) <= _MOST_NUMBERS:
            for row, column in np.argwhere(matrix > 0):
                colour = "white" if share[row, column] > 0.4 else "black"
                axes.text(column, row, matrix[row, column], ha="center", va="center", color=colour, fontsize=7)
        return _png(figure)


def mistakes(score: Evaluation, images: Pixels, labels: tuple[str, ...]) -> bytes | None:
    """The wrong answers of the highest probability, as images; None where all are right."""
    answers, sure = score.probabilities.argmax(1), score.probabilities.max(1)
    wrong = np.flatnonzero(answers != score.targets)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:_TILES]
    if not len(worst):
        return None
    columns = min(8, len(worst))
    rows = -(-len(worst) // columns)
    fonts, names = _lettering(labels)
    with matplotlib.rc_context({**_STYLE, **fonts}):
        figure = Figure((1.15 * columns, 1.5 * rows), layout="constrained")
        tiles = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in tiles:
            axes.axis("off")
        for axes, index in zip(tiles, worst, strict=False):
            axes.imshow(images[index])
            label, answer = names[score.targets[index]], names[answers[index]]
            axes.set_title(f"{label}\n{answer}? {sure[index]:.0%}", fontsize=7)
        return _png(figure)


def _lettering(labels: tuple[str, ...]) -> tuple[dict[Any, Any], list[str]]:
    """Fonts that have the names' characters between them, and the names as they are drawn.

    Matplotlib's own font has no Chinese, say; one that is installed may. A name that none can write is its number.
    """
    families, missing = [_FONT], {ord(character) for label in labels for character in label}
    missing -= _characters(font_manager.findfont(_FONT))
    for font in font_manager.fontManager.ttflist:
        if not missing:
            break
        plain = (font.style, font.variant, str(font.weight)) in (("normal", "normal", "400"), ("normal",) * 3)
        letters = not any(word in font.name.lower() for word in ("emoji", "last resort"))  # bitmaps, and boxes for all
        found = missing & _characters(font.fname) if plain and letters else set()
        if found:
            families.append(font.name)
            missing -= found
    names = [
        # what stands between dollars would be taken for a formula
        f"class {index}" if missing & {ord(character) for character in label} else label.replace("$", r"\$")
        for index, label in enumerate(labels)
    ]
    return {"font.family": families}, names


def _characters(font: str) -> set[int]:
    try:
        return set(font_manager.get_font(font).get_charmap())
    except (OSError, RuntimeError):  # matplotlib remembers fonts that have been removed, or are none
        return set()


def _png(figure: Figure) -> bytes:
    out = BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
