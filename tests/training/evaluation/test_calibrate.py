from __future__ import annotations

import numpy as np
import pytest

from training.evaluation import calibrate


def overconfident(factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is right on average, times a factor."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 5))
    chance = calibrate.softmax(logits)
    targets = (chance.cumsum(1) > rng.random((20_000, 1))).argmax(1)
    return logits * factor, targets


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_temperature_undoes_a_factor(factor: float) -> None:
    logits, targets = overconfident(factor)
    assert calibrate.temperature(logits, targets) == pytest.approx(factor, rel=0.03)


def test_label_smoothing_is_taken_back() -> None:
    """A network that has learnt its smoothed targets perfectly says what it would have said without smoothing."""
    rng = np.random.default_rng(0)
    probabilities = calibrate.softmax(rng.normal(0, 1, (50, 4)))
    learnt = np.log(0.8 * probabilities + 0.2 / 4) + rng.normal(0, 3, (50, 1))  # logits may be shifted
    taken_back = calibrate.softmax(calibrate.unsmoothed(learnt, 0.2))
    assert np.abs(taken_back - probabilities).max() < 0.01
    far = probabilities.min(1) * 0.8 > calibrate.LEAST_SHARE * 0.2 / 4
    assert far.any()
    assert np.abs(taken_back - probabilities)[far].max() < 1e-9
    assert calibrate.unsmoothed(learnt, None) is learnt


def test_no_probability_is_zero_without_label_smoothing() -> None:
    logits = np.array([[9.0, 0.0, 0.0, -20.0]])
    taken_back = calibrate.softmax(calibrate.unsmoothed(logits, 0.2))
    assert 0 < taken_back[0, 3] < 0.01
    assert np.isfinite(calibrate.cross_entropy(calibrate.unsmoothed(logits, 0.2), np.array([3])))


def test_calibration_error_falls_with_the_temperature() -> None:
    logits, targets = overconfident(3.0)
    before = calibrate.expected_calibration_error(calibrate.softmax(logits), targets)
    after = calibrate.expected_calibration_error(calibrate.softmax(logits, 3.0), targets)
    assert before > 0.1
    assert after < 0.02


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    targets = np.array([0, 1, 0, 1])
    # bins: 0.9 twice (half right: off by 0.4), 0.6 (right: off by 0.4), 0.8 (right: off by 0.2)
    expected = (2 * 0.4 + 0.4 + 0.2) / 4
    assert calibrate.expected_calibration_error(probabilities, targets) == pytest.approx(expected)


def test_extreme_logits_stay_finite() -> None:
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]])
    targets = np.array([0, 0])
    assert np.isfinite(calibrate.cross_entropy(logits, targets))
    assert 0 < calibrate.temperature(logits, targets) <= 50


def test_a_model_that_is_always_right_is_not_certain_of_everything() -> None:
    """The likelihood alone would take the temperature to its lowest value."""
    targets = np.arange(100) % 4
    logits = 3.0 * np.eye(4)[targets]
    probabilities = calibrate.softmax(logits, calibrate.temperature(logits, targets))
    assert 0.98 < probabilities.max(1).mean() < 0.997
