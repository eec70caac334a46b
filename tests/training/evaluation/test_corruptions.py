from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import pytest

from contract.errors import BundleError
from contract.preprocessing import Pixels
from tests.support.images import RGB
from tests.support.models import COLOURS, colour_bundle, damaged_bundle
from training.data.split import Split
from training.evaluation import corruptions


@pytest.fixture
def images() -> Pixels:
    """Smooth gradients, with a black image and a white one."""
    ramp = np.linspace(30, 200, 16)
    smooth = np.stack([np.add.outer(ramp, ramp) / 2, np.add.outer(ramp, -ramp) / 2 + 100, np.full((16, 16), 90)], -1)
    return np.stack([smooth, np.zeros_like(smooth), np.full_like(smooth, 255)]).astype(np.uint8)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("side", [32, 224])
def test_every_corruption_keeps_shape_dtype_and_input(side: int) -> None:
    images = rng().integers(0, 256, (3, 12, 16, 3), dtype=np.uint8)
    before = images.copy()
    for kind, corrupt in corruptions.corruptions(side).items():
        made = corrupt(images, rng())
        assert (made.shape, made.dtype) == (images.shape, images.dtype), kind
        assert not np.array_equal(made, images), kind
        np.testing.assert_array_equal(images, before)


def test_larger_images_are_corrupted_more() -> None:
    noise = np.full((1, 8, 8, 3), 128, np.uint8)
    small, large = (corruptions.corruptions(side)["noise"](noise, rng()).std() for side in (32, 224))
    assert small == pytest.approx(0.08 * 255, rel=0.15)
    assert large == pytest.approx(0.18 * 255, rel=0.15)


def test_brightness_is_added_to_the_value_of_hsv(images: Pixels) -> None:
    made = corruptions.brightness(images, rng(), added=0.15)
    for image, brighter in zip(images, made, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*image[3, 5] / 255)
        wanted = np.array(colorsys.hsv_to_rgb(hue, saturation, min(1, value + 0.15))) * 255
        np.testing.assert_allclose(brighter[3, 5], wanted, atol=0.51)


def test_blur_spreads_a_point_as_a_gaussian_does() -> None:
    point = np.zeros((1, 21, 21, 3), np.uint8)
    point[0, 10, 10] = 255
    blurred = corruptions.gaussian_blur(point, rng(), sigma=1.5)[0, :, :, 0].astype(float)
    offsets = np.arange(21) - 10
    variance = (blurred.sum(0) * offsets**2).sum() / blurred.sum()
    assert variance == pytest.approx(1.5**2, rel=0.25)


def test_accuracy_is_that_of_the_corrupted_images(tmp_path: Path) -> None:
    """The bundle tells colours apart: a green that is barely greener than its red is told only while it is clean."""
    bundle = colour_bundle(tmp_path)
    plain = [np.full((8, 8, 3), RGB[colour], np.uint8) for colour in COLOURS]
    narrow = np.full((8, 8, 3), (120, 121, 0), np.uint8)
    split = Split(np.stack([*plain, narrow]), np.array([0, 1, 2, 1]))
    measured = corruptions.measure(bundle, split, "test")
    assert (measured.split, measured.images) == ("test", 4)
    assert measured.accuracy["clean"] == 1
    assert list(measured.accuracy) == ["clean", *corruptions.corruptions(8)]
    again = corruptions.measure(bundle, split, "test")
    assert again == measured
    broken = [corrupt(split.images, rng()) for corrupt in corruptions.corruptions(8).values()]
    assert min(measured.accuracy.values()) == min(
        (image.mean((1, 2)).argmax(1) == split.targets).mean() for image in [split.images, *broken]
    )


def test_a_large_split_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = colour_bundle(tmp_path)
    split = Split(np.full((50, 8, 8, 3), RGB["red"], np.uint8), np.arange(50) % 2)
    monkeypatch.setattr(corruptions, "MOST_IMAGES", 20)
    assert corruptions.measure(bundle, split, "test").images == 20
    monkeypatch.setattr(corruptions, "MOST_PIXELS", 8 * 8 * 10)
    measured = corruptions.measure(bundle, split, "test")
    assert measured.images == 10
    assert corruptions.measure(bundle, split, "test") == measured
    assert {corruptions.measure(bundle, split, "test", seed=seed).accuracy["clean"] for seed in range(8)} != {0.5}


def test_a_damaged_model_is_said_so(tmp_path: Path) -> None:
    split = Split(np.full((4, 8, 8, 3), RGB["red"], np.uint8), np.zeros(4, np.int64))
    with pytest.raises(BundleError, match="not finite"):
        corruptions.measure(damaged_bundle(tmp_path), split, "test")
