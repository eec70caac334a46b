from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from contract.errors import UsageError
from contract.preprocessing import Pixels
from tests.support.images import image
from training.data.split import Split
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


def model(known_margin: float, ood_margin: float) -> object:
    """A model whose logit of class 0 is about `known_margin` on its first images, and `ood_margin` on others."""
    seen: list[Pixels] = []

    def logits(images: Pixels) -> Floats:
        if not seen:
            seen.append(images)
        margin = known_margin if images is seen[0] else ood_margin
        spread = np.linspace(-0.3, 0.3, len(images))
        return np.stack([margin + spread, np.zeros(len(images))], axis=1)

    return logits


def test_the_threshold_lies_between_what_can_be_told_apart() -> None:
    validation = Split(KNOWN, np.zeros(len(KNOWN), np.int64))
    rejection = ood.fit_threshold(model(3, 1), 1.0, validation)  # type: ignore[arg-type]
    highest_ood, lowest_known = 1 / (1 + np.exp(-1.3)), 1 / (1 + np.exp(-2.7))
    assert highest_ood - 1e-3 <= rejection.threshold <= lowest_known
    assert rejection.right == 0
    assert min(rejection.ood.values()) > 0.99


def test_images_of_other_things_are_read_and_counted(tmp_path: Path) -> None:
    (tmp_path / "some" / "deeper").mkdir(parents=True)
    (tmp_path / "some" / "deeper" / "a.png").write_bytes(image("red", (50, 40)))
    (tmp_path / "some" / "b.jpg").write_bytes(image("blue", (9, 9), "JPEG"))
    (tmp_path / "some" / "broken.png").write_bytes(b"no image")
    (tmp_path / "some" / "notes.txt").write_text("no image either")
    other = ood.read_folder(tmp_path / "some", (20, 30), "crop")
    assert other.shape == (2, 20, 30, 3)
    validation = Split(KNOWN, np.zeros(len(KNOWN), np.int64))
    rejection = ood.fit_threshold(model(3, 1), 1.0, validation, other)  # type: ignore[arg-type]
    assert rejection.ood["other data"] == 0.5  # of the two, the surer sets the threshold
    with pytest.raises(UsageError, match="has no images"):
        ood.read_folder(tmp_path / "nowhere", (20, 30), "crop")


def test_few_right_answers_are_given_up_for_it() -> None:
    validation = Split(KNOWN, np.zeros(len(KNOWN), np.int64))
    rejection = ood.fit_threshold(model(1, 3), 1.0, validation)  # type: ignore[arg-type]
    assert rejection.right <= ood.LARGEST_LOSS
    assert max(rejection.ood.values()) == 0
    same = ood.fit_threshold(model(1, 1), 1.0, validation)  # type: ignore[arg-type]
    assert same.right <= ood.LARGEST_LOSS


def test_a_model_that_is_never_right_gets_a_threshold() -> None:
    wrong = Split(KNOWN, np.ones(len(KNOWN), np.int64))
    rejection = ood.fit_threshold(model(3, 1), 1.0, wrong)  # type: ignore[arg-type]
    assert rejection.right == 0
    assert rejection.describe().wrong == pytest.approx(rejection.wrong, abs=1e-4)
