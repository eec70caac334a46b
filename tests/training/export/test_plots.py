"""The report's plots where names are not plain English."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import font_manager

from training.export import plots

MATRIX = np.array([[3, 1], [0, 4]])


def characters(font: str) -> set[int]:
    return set(font_manager.get_font(font_manager.findfont(font)).get_charmap())


@pytest.mark.filterwarnings("error")
def test_a_name_that_no_font_can_write_is_its_number() -> None:
    nowhere = "\U0010fffd"
    assert plots.confusion(MATRIX, (nowhere, "dog")) == plots.confusion(MATRIX, ("class 0", "dog"))
    assert plots.confusion(MATRIX, ("cat", nowhere)) == plots.confusion(MATRIX, ("cat", "class 1"))


@pytest.mark.filterwarnings("error")
def test_a_name_is_written_in_a_font_that_has_it() -> None:
    """One of matplotlib's other fonts stands for those that are installed."""
    letter = chr(max(characters("STIXGeneral") - characters("DejaVu Sans")))
    assert plots.confusion(MATRIX, (letter, "dog")) != plots.confusion(MATRIX, ("class 0", "dog"))


def test_a_font_that_is_gone_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matplotlib keeps a list of fonts from one day to the next."""
    gone = font_manager.FontEntry(fname="gone.ttf", name="Gone")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [gone])
    assert plots.confusion(MATRIX, ("\U0010fffd", "dog")) == plots.confusion(MATRIX, ("class 0", "dog"))


def test_dollars_are_no_formula() -> None:
    assert plots.confusion(MATRIX, (r"$\nosuch$", "dog"))  # as a formula, it could not be drawn
