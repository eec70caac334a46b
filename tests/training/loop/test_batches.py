"""Batches, by seed and step."""

from __future__ import annotations

import numpy as np
import pytest

from training.data import augment
from training.data.dataset import Dataset
from training.data.split import Split
from training.loop.batches import Batches, class_weights


def numbered(count: int) -> Dataset:
    """Images each of which is filled with its own number."""
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 4, 4, 3))
    split = Split(np.ascontiguousarray(images), np.arange(count) % 2)
    return Dataset("numbers", ("even", "odd"), split, split, None, "crop", "")


def test_an_epoch_shows_each_image_once_and_the_next_in_another_order() -> None:
    batches = Batches(numbered(40), (), 8, 3, None)
    assert batches.per_epoch == 5
    epochs = [np.concatenate([batches.at(step)[0][:, 0, 0, 0] for step in steps]) for steps in (range(5), range(5, 10))]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(40))
    assert (epochs[0] != epochs[1]).any()


def test_targets_go_with_their_images() -> None:
    images, probabilities, weights = Batches(numbered(40), (), 8, 3, None).at(7)
    np.testing.assert_array_equal(probabilities.argmax(1), images[:, 0, 0, 0] % 2)
    assert weights is None


def test_seed_and_step_decide() -> None:
    transforms = (augment.Flip(), augment.Translate(1), augment.Cutout(2))
    first, same, other = (Batches(numbered(40), transforms, 8, seed, None) for seed in (3, 3, 4))
    coming = first.following(5)
    for step in (5, 6, 7):
        np.testing.assert_array_equal(next(coming)[0], same.at(step)[0])
    assert (same.at(5)[0] != other.at(5)[0]).any()


def test_rare_classes_count_for_more() -> None:
    assert class_weights(np.repeat([0, 1, 2], [10, 10, 14]), 3) is None
    weights = class_weights(np.repeat([0, 1, 2], [10, 20, 40]), 3)
    assert weights is not None
    assert weights[0] / weights[2] == pytest.approx(4)
    assert weights[1] / weights[2] == pytest.approx(2)
    assert weights @ [10, 20, 40] == pytest.approx(70)  # 1 an image
    capped = class_weights(np.repeat([0, 1], [2, 2000]), 2)
    assert capped is not None
    assert capped[0] / capped[1] == pytest.approx(10)
