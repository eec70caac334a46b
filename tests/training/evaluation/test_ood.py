from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from contract.errors import UsageError
from contract.preprocessing import Pixels
from tests.support.images import image
from training.evaluation import ood
from training.evaluation.calibrate import Floats

KNOWN = np.random.default_rng(0).integers(0, 256, (400, 20, 30, 3), np.uint8)


def test_unknown_images_are_of_the_known_ones_size_and_repeat() -> None:
    first, again = ood.synthetic_images(KNOWN), ood.synthetic_images(KNOWN)
    assert list(first) == ["noise", "stripes", "clouds", "shuffled tiles"]
    for kind, images in first.items():
        assert images.shape == (300, 20, 30, 3)
        assert images.dtype == np.uint8
        assert np.array_equal(images, again[kind])
        assert len(np.unique(images.reshape(300, -1), axis=0)) > 290
    few = ood.synthetic_images(KNOWN[:7])
    assert {len(images) for images in few.values()} == {7}


def test_shuffled_tiles_are_the_images_own() -> None:
    shuffled = ood.synthetic_images(KNOWN)["shuffled tiles"]
    own = {tuple(np.sort(image.ravel())) for image in KNOWN}
    assert all(tuple(np.sort(image.ravel())) in own for image in shuffled)
    assert not any((image == known).all() for image in shuffled[:5] for known in KNOWN)


NONE: list[float] = []


def model(margin: float) -> Callable[[Pixels], Floats]:
    """A model whose logit of class 0 is about `margin` on whatever it is shown; that of class 1 is 0."""
    return lambda images: np.stack([_about(margin, len(images)), np.zeros(len(images))], axis=1)


def confidence(right: float, wrong: list[float] = NONE, *, count: int = 400) -> ood.Confidence:
    """The confidence of right answers with margins about `right`, and of wrong ones with exactly these margins."""
    margins = np.concatenate([_about(right, count), wrong])
    return ood.Confidence(1 / (1 + np.exp(-margins)), np.arange(len(margins)) < count)


def _about(margin: float, count: int) -> Floats:
    return margin + np.linspace(-0.3, 0.3, count)


def test_confidence_is_that_of_the_most_probable_class() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 4.0], [0.0, 2.0]])
    held_out = ood.Confidence.of(logits, np.array([0, 1, 0]), temperature=2.0)
    np.testing.assert_allclose(held_out.probability, 1 / (1 + np.exp([-1.0, -2.0, -1.0])))
    assert held_out.is_right.tolist() == [True, True, False]


def test_the_threshold_lies_between_what_can_be_told_apart() -> None:
    rejection = ood.fit_threshold(model(1), 1.0, confidence(3), KNOWN)
    highest_ood, lowest_known = 1 / (1 + np.exp(-1.3)), 1 / (1 + np.exp(-2.7))
    assert highest_ood - 1e-3 <= rejection.threshold <= lowest_known
    assert rejection.right == 0
    assert min(rejection.ood.values()) > 0.99


def test_misclassified_images_are_rejected_if_few_right_answers_are_as_unsure() -> None:
    rejection = ood.fit_threshold(model(-0.5), 1.0, confidence(3, [2.0, 2.1, 2.72, 5.0]), KNOWN)
    assert rejection.wrong == 0.75
    assert 0 < rejection.right <= ood.LARGEST_LOSS
    without = ood.fit_threshold(model(-0.5), 1.0, confidence(3), KNOWN)
    assert without.threshold < rejection.threshold  # out-of-distribution images alone ask for no more


def test_a_given_threshold_is_kept_and_what_it_rejects_is_counted() -> None:
    held_out = confidence(3, [2.0])
    rejection = ood.fit_threshold(model(1), 1.0, held_out, KNOWN, threshold=0.95)
    assert rejection.threshold == 0.95
    assert rejection.wrong == 1
    assert rejection.right == np.mean(confidence(3).probability < 0.95)
    assert min(rejection.ood.values()) == 1


def test_images_of_other_things_are_read_and_counted(tmp_path: Path) -> None:
    (tmp_path / "some" / "deeper").mkdir(parents=True)
    (tmp_path / "some" / "deeper" / "a.png").write_bytes(image("red", (50, 40)))
    (tmp_path / "some" / "b.jpg").write_bytes(image("blue", (9, 9), "JPEG"))
    (tmp_path / "some" / "broken.png").write_bytes(b"no image")
    (tmp_path / "some" / "notes.txt").write_text("no image either")
    other = ood.read_folder(tmp_path / "some", (20, 30), "crop")
    assert other.shape == (2, 20, 30, 3)
    rejection = ood.fit_threshold(model(1), 1.0, confidence(3), KNOWN, other)
    assert rejection.ood["other data"] == 0.5  # of the two, the surer sets the threshold
    with pytest.raises(UsageError, match="has no images"):
        ood.read_folder(tmp_path / "nowhere", (20, 30), "crop")


def test_few_right_answers_are_given_up_for_it() -> None:
    rejection = ood.fit_threshold(model(3), 1.0, confidence(1), KNOWN)
    assert rejection.right <= ood.LARGEST_LOSS
    assert max(rejection.ood.values()) == 0
    same = ood.fit_threshold(model(1), 1.0, confidence(1), KNOWN)
    assert same.right <= ood.LARGEST_LOSS


def test_a_model_that_is_never_right_gets_a_threshold() -> None:
    rejection = ood.fit_threshold(model(1), 1.0, confidence(3, [3.0, 3.1], count=0), KNOWN)
    assert rejection.right == 0
    assert rejection.describe().wrong == 1
