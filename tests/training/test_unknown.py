from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from contract.errors import UsageError
from contract.images import Pixels
from tests.tiny import picture
from training import unknown
from training.calibrate import Floats
from training.split import Split

KNOWN = np.random.default_rng(0).integers(0, 256, (400, 20, 30, 3), np.uint8)


def test_unknown_pictures_are_of_the_known_ones_size_and_repeat() -> None:
    first, again = unknown.pictures(KNOWN), unknown.pictures(KNOWN)
    assert list(first) == ["noise", "stripes", "clouds", "shuffled tiles"]
    for kind, pictures in first.items():
        assert pictures.shape == (300, 20, 30, 3)
        assert pictures.dtype == np.uint8
        assert np.array_equal(pictures, again[kind])
        assert len(np.unique(pictures.reshape(300, -1), axis=0)) > 290
    few = unknown.pictures(KNOWN[:7])
    assert {len(pictures) for pictures in few.values()} == {7}


def test_shuffled_tiles_are_the_pictures_own() -> None:
    shuffled = unknown.pictures(KNOWN)["shuffled tiles"]
    own = {tuple(np.sort(picture.ravel())) for picture in KNOWN}
    assert all(tuple(np.sort(picture.ravel())) in own for picture in shuffled)
    assert not any((picture == known).all() for picture in shuffled[:5] for known in KNOWN)


def model(sure_of_known: float, sure_of_unknown: float) -> object:
    """One that knows the pictures that it is first shown, and is as sure as it is told."""
    seen: list[Pixels] = []

    def logits(pictures: Pixels) -> Floats:
        if not seen:
            seen.append(pictures)
        sure = sure_of_known if pictures is seen[0] else sure_of_unknown
        spread = np.linspace(-0.3, 0.3, len(pictures))
        return np.stack([sure + spread, np.zeros(len(pictures))], axis=1)

    return logits


def test_the_threshold_lies_between_what_can_be_told_apart() -> None:
    held_out = Split(KNOWN, np.zeros(len(KNOWN), np.int64))
    found = unknown.doubt(model(3, 1), 1.0, held_out)  # type: ignore[arg-type]
    surest_unknown, least_known = 1 / (1 + np.exp(-1.3)), 1 / (1 + np.exp(-2.7))
    assert surest_unknown - 1e-3 <= found.threshold <= least_known
    assert found.right == 0
    assert min(found.unknown.values()) > 0.99


def test_pictures_of_other_things_are_read_and_counted(tmp_path: Path) -> None:
    (tmp_path / "some" / "deeper").mkdir(parents=True)
    (tmp_path / "some" / "deeper" / "a.png").write_bytes(picture("red", (50, 40)))
    (tmp_path / "some" / "b.jpg").write_bytes(picture("blue", (9, 9), "JPEG"))
    (tmp_path / "some" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "some" / "notes.txt").write_text("no picture either")
    other = unknown.read(tmp_path / "some", (20, 30), "crop")
    assert other.shape == (2, 20, 30, 3)
    held_out = Split(KNOWN, np.zeros(len(KNOWN), np.int64))
    found = unknown.doubt(model(3, 1), 1.0, held_out, other)  # type: ignore[arg-type]
    assert found.unknown["other data"] == 0.5  # of the two, the surer sets the threshold
    with pytest.raises(UsageError, match="has no pictures"):
        unknown.read(tmp_path / "nowhere", (20, 30), "crop")


def test_few_right_answers_are_given_up_for_it() -> None:
    held_out = Split(KNOWN, np.zeros(len(KNOWN), np.int64))
    found = unknown.doubt(model(1, 3), 1.0, held_out)  # type: ignore[arg-type]
    assert found.right <= unknown.LARGEST_LOSS
    assert max(found.unknown.values()) == 0
    same = unknown.doubt(model(1, 1), 1.0, held_out)  # type: ignore[arg-type]
    assert same.right <= unknown.LARGEST_LOSS


def test_a_model_that_is_never_right_gets_a_threshold() -> None:
    wrong = Split(KNOWN, np.ones(len(KNOWN), np.int64))
    found = unknown.doubt(model(3, 1), 1.0, wrong)  # type: ignore[arg-type]
    assert found.right == 0
    assert found.describe()["wrong"] == pytest.approx(found.wrong, abs=1e-4)
