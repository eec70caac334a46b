"""Which pictures an epoch looks at."""

from __future__ import annotations

import keras
import numpy as np

from training.selection import Hardest, Losses


def test_the_hardest_and_some_others_are_looked_at() -> None:
    losses = np.random.default_rng(0).permutation(1000).astype(np.float32)
    epochs = [Hardest(0.3, 0.5).choose(losses, 0.5, np.random.default_rng(seed)) for seed in range(20)]
    for chosen in epochs:
        assert len(set(chosen)) == len(chosen) == Hardest(0.3, 0.5).count(1000) == 650
        assert set(np.flatnonzero(losses >= 700)) <= set(chosen)
    assert {number for chosen in epochs for number in chosen} == set(range(1000))  # the easy ones in turn
    assert np.mean(losses[epochs[0]][:100]) > 400  # in no order of theirs
    assert np.mean(losses[epochs[0]][-100:]) > 400


def test_at_the_end_all_are_alike() -> None:
    losses = np.arange(1000, dtype=np.float32)
    chosen = Hardest(0.3, 0.5).choose(losses, 0.9, np.random.default_rng(0))
    assert len(set(chosen)) == 650
    assert 460 < losses[chosen].mean() < 540


def test_what_was_never_seen_comes_first() -> None:
    losses = np.array([1, np.inf, 2, np.inf], np.float32)
    assert set(Hardest(0.5, 0.0).choose(losses, 0.0, np.random.default_rng(0))) == {1, 3}


def test_losses_are_those_of_each_picture() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, kernel_initializer="identity")])
    losses = Losses(2)
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True), metrics=[losses])
    x, y = np.array([[1, 2, 3], [5, 0, 0]], np.float32), np.eye(3, dtype=np.float32)[[0, 0]]
    model.train_on_batch(x, y, np.array([1, 3], np.float32))
    model.reset_metrics()
    wanted = -np.log(np.exp(x[:, 0]) / np.exp(x).sum(1))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(losses.values), wanted, rtol=1e-4)
