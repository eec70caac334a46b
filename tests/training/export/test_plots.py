"""The report's plots where names are not plain English."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib import font_manager
from PIL import Image

from training.export import plots
from training.export.lettering import MOST_CHARACTERS, lettering

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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["x" * 400, "a name of several words, " * 20, "W" * 60])
def test_long_names_leave_the_plot_its_room(name: str) -> None:
    """The matrix is drawn about as large as with short names."""
    plain, drawn = (
        np.asarray(Image.open(io.BytesIO(plots.confusion(MATRIX, names))).convert("RGB"))
        for names in (("cat", "dog"), (name, name[:-1] + "y"))
    )
    dark = [(image.astype(int) == (8, 48, 107)).all(-1).sum() for image in (plain, drawn)]  # the darkest blue
    assert max(drawn.shape) < 2 * max(plain.shape)
    assert dark[1] > dark[0] / 3


@pytest.mark.filterwarnings("error")
def test_joiners_do_not_make_a_name_a_number_and_blanks_are_plain() -> None:
    assert plots.confusion(MATRIX, ("a\u200cb\u200dc", "dog")) != plots.confusion(MATRIX, ("class 0", "dog"))
    assert plots.confusion(MATRIX, ("a\u3000b\u200ec", "dog")) == plots.confusion(MATRIX, ("a bc", "dog"))


def test_the_ends_of_long_names_stay() -> None:
    _, names = lettering(("the same beginning of all of these names, 1", "the same beginning of all of these names, 2"))
    assert len(set(names)) == 2
    assert all(len(name) == MOST_CHARACTERS for name in names)
