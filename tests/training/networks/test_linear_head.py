from __future__ import annotations

import numpy as np
import pytest

from training.networks import linear_head


def clusters(
    each: int, classes: int, spread: float, *, seed: int = 0
) -> tuple[linear_head.Floats, linear_head.Targets]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(0, 1, (classes, 20))
    targets = np.repeat(np.arange(classes), each)
    return centres[targets] + rng.normal(0, spread, (len(targets), 20)), targets


def test_lbfgs_finds_the_minimum_of_an_ill_conditioned_bowl() -> None:
    scale = np.logspace(0, 3, 30)
    wanted = np.linspace(-3, 3, 30)

    def bowl(point: linear_head.Floats) -> tuple[float, linear_head.Floats]:
        off = point - wanted
        return float(off @ (scale * off) / 2), scale * off

    np.testing.assert_allclose(linear_head.minimise(bowl, np.zeros(30)), wanted, atol=1e-2)


def test_the_fit_is_where_the_gradient_is_zero() -> None:
    features, targets = clusters(40, 3, 1.5)
    counts = np.where(targets == 0, 3.0, 1.0)
    head = linear_head.fit(features, targets, 3, 10.0, counts)
    deviation = features.std(0)
    x = (features - features.mean(0)) / deviation
    _, gradient = linear_head.cross_entropy(head.logits(features).astype(np.float64), targets)
    gradient *= counts[:, None]
    slopes = x.T @ gradient + 10.0 * head.weights * deviation[:, None]  # the penalty is on standardised features
    assert np.abs(slopes).max() < 0.05
    assert np.abs(gradient.sum(0)).max() < 0.05  # the bias is free


def test_folds_have_the_classes_in_equal_shares() -> None:
    targets = np.repeat([0, 1, 2], [50, 20, 5])
    fold = linear_head.folds(targets, 5, np.random.default_rng(0))
    for number in range(5):
        assert np.bincount(targets[fold == number]).tolist() == [10, 4, 1]


def test_cross_validated_answers_are_as_good_as_those_to_new_images() -> None:
    features, targets = clusters(40, 4, 2.0)
    found = linear_head.cross_validate(features, targets, 4)
    new, wanted = clusters(400, 4, 2.0, seed=1)
    head = linear_head.fit(features, targets, 4, found.strength)
    by_folds = float((found.logits.argmax(1) == found.targets).mean())
    of_new = float((head.logits(new).argmax(1) == wanted).mean())
    seen = float((head.logits(features).argmax(1) == targets).mean())
    assert by_folds == pytest.approx(of_new, abs=0.06)
    assert seen > by_folds + 0.02  # those that it was fitted to are no measure


def test_the_strength_goes_with_the_noise() -> None:
    rng = np.random.default_rng(0)
    clear = linear_head.cross_validate(*clusters(30, 3, 0.3), 3)
    noise = linear_head.cross_validate(rng.normal(size=(90, 20)), np.repeat([0, 1, 2], 30), 3)
    assert clear.strength < noise.strength == linear_head.STRENGTHS[0]


def test_a_class_of_one_and_a_feature_that_is_constant() -> None:
    features, targets = clusters(10, 2, 0.3)
    features[:, 3] = 7
    targets[0] = 2
    found = linear_head.cross_validate(features, targets, 3)
    assert np.isfinite(found.logits).all()
    assert np.isfinite(linear_head.fit(features, targets, 3, found.strength).weights).all()


def test_views_share_what_their_image_counts() -> None:
    features, targets = clusters(20, 3, 1.0)
    plain = linear_head.fit(features, targets, 3, 10.0)
    same = linear_head.fit(features, targets, 3, 10.0, views=np.stack([features, features]))
    np.testing.assert_allclose(plain.weights, same.weights, atol=2e-3)
    rng = np.random.default_rng(1)
    views = features + rng.normal(0, 1.0, (4, *features.shape))  # the noise that new images have
    new, wanted = clusters(300, 3, 1.5, seed=2)
    heads = (linear_head.fit(features[::5], targets[::5], 3, 1.0, views=some) for some in (None, views[:, ::5]))
    without, with_views = (float((head.logits(new).argmax(1) == wanted).mean()) for head in heads)
    assert with_views >= without
    found = linear_head.cross_validate(features, targets, 3, views=views)
    assert len(found.logits) == len(targets)
