from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from contract.errors import BundleError
from tests.support.images import RGB
from tests.support.models import COLOURS, colour_bundle, damaged_bundle
from training.data.split import Split
from training.evaluation import evaluate
from training.export import plots, report


def test_rare_classes_weigh_as_much_in_the_balanced_accuracy(tmp_path: Path) -> None:
    bundle = colour_bundle(tmp_path)
    targets = np.array([0] * 8 + [1, 1], np.int64)
    shown = ["red"] * 8 + ["green", "blue"]
    images = np.stack([np.full((8, 8, 3), RGB[colour], np.uint8) for colour in shown])
    score = evaluate.evaluate(bundle, Split(images, targets), "test")
    assert (score.accuracy, score.balanced_accuracy) == (0.9, 0.75)


@pytest.mark.parametrize(("right", "above"), [(0, False), (4, False), (30, True)])
def test_a_model_at_chance_is_told(tmp_path: Path, right: int, above: bool) -> None:
    """Four of ten are no more than chance may bring with three classes; thirty of thirty are."""
    bundle = colour_bundle(tmp_path)
    count = max(10, right)
    targets = np.arange(count) % 3
    shown = [COLOURS[(target + (place >= right)) % 3] for place, target in enumerate(targets)]
    images = np.stack([np.full((8, 8, 3), RGB[colour], np.uint8) for colour in shown])
    accuracy = evaluate.evaluate(bundle, Split(images, targets), "test").describe()
    assert accuracy.above_chance is above
    assert report.chance(accuracy, 3).startswith("No better than chance") is not above
    card = dataclasses.replace(bundle.card, accuracy=accuracy)
    assert ("No better than chance: guessing among 3 classes" in report.markdown(card)) is not above


def test_a_damaged_or_altered_model_is_not_scored(tmp_path: Path) -> None:
    bundle = colour_bundle(tmp_path)
    split = Split(np.full((4, 8, 8, 3), RGB["red"], np.uint8), np.zeros(4, np.int64))
    warmer = dataclasses.replace(bundle, card=dataclasses.replace(bundle.card, temperature=5.0))
    with pytest.raises(BundleError, match=r"does not divide by the temperature 5\.0"):
        evaluate.evaluate(warmer, split, "test")
    with pytest.raises(BundleError, match="not finite"):
        evaluate.evaluate(damaged_bundle(tmp_path), split, "test")


def test_names_between_dollars_are_no_formulae(tmp_path: Path) -> None:
    labels = ("$a_$", r"$\\frac$", "c$")
    bundle = colour_bundle(tmp_path, labels=labels)
    images = np.stack([np.full((8, 8, 3), RGB[colour], np.uint8) for colour in ("red", "blue", "green")])
    score = evaluate.evaluate(bundle, Split(images, np.arange(3)), "test")
    for plot in (plots.confusion(score.confusion, labels), plots.mistakes(score, images, labels)):
        assert plot is not None
        assert plot.startswith(b"\x89PNG")
