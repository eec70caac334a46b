"""Batches, by seed and step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from training import augment
from training.batches import Batches, class_weights
from training.data import Dataset
from training.selection import Hardest
from training.split import Split


def numbered(count: int) -> Dataset:
    """Pictures each of which is filled with its own number."""
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 4, 4, 3))
    split = Split(np.ascontiguousarray(images), np.arange(count) % 2)
    return Dataset("numbers", ("even", "odd"), split, split, None, "crop", "")


def test_an_epoch_shows_each_picture_once_and_the_next_in_another_order() -> None:
    batches = Batches(numbered(40), (), 8, 3)
    assert batches.an_epoch == 5
    epochs = [np.concatenate([batches.at(step)[0][:, 0, 0, 0] for step in steps]) for steps in (range(5), range(5, 10))]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(40))
    assert (epochs[0] != epochs[1]).any()


def test_targets_go_with_their_pictures() -> None:
    pictures, targets, weights = Batches(numbered(40), (), 8, 3).at(7)
    np.testing.assert_array_equal(targets.argmax(1), pictures[:, 0, 0, 0] % 2)
    assert weights is None


def test_seed_and_step_decide() -> None:
    transforms = (augment.Flip(), augment.Translate(1), augment.Cutout(2))
    one, same, other = (Batches(numbered(40), transforms, 8, seed) for seed in (3, 3, 4))
    coming = one.following(5)
    for step in (5, 6, 7):
        np.testing.assert_array_equal(next(coming)[0], same.at(step)[0])
    assert (same.at(5)[0] != other.at(5)[0]).any()


def test_an_epoch_of_a_selection_knows_the_losses_of_the_one_before() -> None:
    batches = Batches(numbered(40), (), 8, 3, selection=Hardest(0.4, 0.0))
    assert batches.an_epoch == 2
    coming = batches.following(0)
    seen = list[int]()
    for step in range(6):  # what was seen last is easiest: an epoch sees what was not seen, then the first again
        numbers = next(coming)[0][:, 0, 0, 0].astype(int)
        batches.tell(step, np.full(8, 1 / (1 + step), np.float32))
        seen.extend(numbers)
    assert len(set(seen[:32])) == 32
    assert set(seen[32:]) == set(range(40)) - set(seen[:32]) | set(seen[:8])


def test_a_selection_is_taken_up_within_an_epoch_and_between_two() -> None:
    def told(batches: Batches, steps: range) -> list[list[int]]:
        coming, seen = batches.following(steps.start), list[list[int]]()
        for step in steps:
            numbers = next(coming)[0][:, 0, 0, 0]
            batches.tell(step, numbers)
            seen.append(numbers.astype(int).tolist())
        return seen

    selection = Hardest(0.3, 0.5)
    whole = told(Batches(numbered(40), (), 5, 3, selection=selection), range(15))
    for stop in (1, 4, 5, 6, 10, 13):
        first, second = (Batches(numbered(40), (), 5, 3, selection=selection) for _ in range(2))
        seen = told(first, range(stop))
        second.take_up(stop, first.losses, first.order)
        assert seen + told(second, range(stop, 15)) == whole


def test_weights_are_one_on_average_over_what_is_looked_at() -> None:
    whole = numbered(100)
    rare = np.where(np.arange(100) < 90, 0, 1)
    uneven = replace(whole, train=Split(whole.train.images, rare))
    batches = Batches(uneven, (), 10, 3, selection=Hardest(0.2, 0.25))
    coming = batches.following(0)
    for step in range(24):  # the first three epochs have not seen all yet
        pictures, _, weights = next(coming)
        assert weights is not None
        batches.tell(step, np.where(pictures[:, 0, 0, 0] < 90, 0.1, 2).astype(np.float32))  # what is rare is hard
    counts = batches.class_weights
    assert counts is not None
    drawn = rare[batches.order]
    assert drawn.sum() == 10
    weights = np.concatenate([batches.at(step)[2] for step in range(20, 24)])
    assert weights.mean() == pytest.approx(1)


def test_rare_classes_count_for_more() -> None:
    assert class_weights(np.repeat([0, 1, 2], [10, 10, 14]), 3) is None
    weights = class_weights(np.repeat([0, 1, 2], [10, 20, 40]), 3)
    assert weights is not None
    assert weights[0] / weights[2] == pytest.approx(4)
    assert weights[1] / weights[2] == pytest.approx(2)
    assert weights @ [10, 20, 40] == pytest.approx(70)  # 1 a picture
    capped = class_weights(np.repeat([0, 1], [2, 2000]), 2)
    assert capped is not None
    assert capped[0] / capped[1] == pytest.approx(10)
