from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from training.networks.features import features

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), np.uint8)


class Counted(keras.Model):  # type: ignore[misc]  # keras is untyped
    """The mean of each channel; it counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.output_shape = (None, 3)

    def predict_on_batch(self, images: object) -> object:
        self.asked += 1
        return keras.ops.mean(images, (1, 2))


def test_they_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELSCOPE_CACHE", str(tmp_path))
    model = Counted()
    first = features(model, IMAGES, "a")
    np.testing.assert_allclose(first, IMAGES.mean((1, 2)), rtol=1e-5)
    asked = model.asked
    assert np.array_equal(features(model, IMAGES, "a"), first)
    assert model.asked == asked
    features(model, IMAGES, "b")  # of other weights
    features(model, IMAGES[:8], "a")
    changed = IMAGES.copy()
    changed[3, 0, 0, 0] ^= 1
    features(model, changed, "a")
    assert model.asked == asked + 3


def test_what_is_damaged_is_computed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELSCOPE_CACHE", str(tmp_path))
    first = features(Counted(), IMAGES, "a")
    (kept,) = tmp_path.glob("features-*.npy")
    kept.write_bytes(kept.read_bytes()[:100])
    assert np.array_equal(features(Counted(), IMAGES, "a"), first)


def test_a_cache_that_cannot_be_written_to_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("KERNELSCOPE_CACHE", str(tmp_path / "file"))
    assert features(Counted(), IMAGES, "a").shape == (9, 3)
