from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from training.data.augment import Affine, Cutout, Draw, Flip, Jpeg, Transform, Translate
from training.data.jpeg import compress


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (16, 12, 10, 3), dtype=np.uint8)


def draw(epoch: int = 0, seed: int = 0, n: int = 16) -> Draw:
    return Draw(epoch, np.random.default_rng(seed), np.arange(n) % 2 == 0)


ALL: list[Transform] = [Flip(), Flip(alternate=True), Translate(2), Cutout(4), Affine(), Jpeg()]


@pytest.mark.parametrize("transform", ALL, ids=repr)
def test_shape_and_input_stay_and_the_draw_decides(images: np.ndarray, transform: Transform) -> None:
    before = images.copy()
    first = transform(images, draw(seed=1))
    assert first.shape == images.shape
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(first, transform(images, draw(seed=1)))
    assert not np.array_equal(first, images)


def test_flips_alternate(images: np.ndarray) -> None:
    even, odd = (Flip(alternate=True)(images, draw(epoch)) for epoch in (0, 1))
    np.testing.assert_array_equal(even[:, :, ::-1], odd)
    np.testing.assert_array_equal(even[1], images[1])
    np.testing.assert_array_equal(even[0], images[0, :, ::-1])


def test_translation_is_by_whole_pixels_and_reflects(images: np.ndarray) -> None:
    moved = Translate(2)(images, draw())
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    for image, around in zip(moved, padded, strict=True):
        windows = [around[y : y + 12, x : x + 10] for y in range(5) for x in range(5)]
        assert any(np.array_equal(image, window) for window in windows)


def test_cutout_blanks_at_most_a_square(images: np.ndarray) -> None:
    changed = (Cutout(4)(images, draw()) != images).any(-1).sum((1, 2))
    assert changed.max() <= 16
    assert changed.min() >= 3  # a hole's centre lies inside


def test_affine_without_amplitude_is_the_identity(images: np.ndarray) -> None:
    np.testing.assert_allclose(Affine(0, 0)(images, draw()), images, atol=1e-3)


def test_affine_turns_about_the_middle() -> None:
    spot = np.zeros((64, 33, 33, 3), np.uint8)
    spot[:, 16, 16] = 255
    turned = Affine(45, 0)(spot, draw(n=64))
    np.testing.assert_allclose(turned[:, 16, 16], 255, atol=1)


def test_affine_turns_and_shifts_as_far_as_it_says() -> None:
    """Two spots, left and right of the middle: where they go tells angle and shift."""
    images = np.zeros((200, 41, 41, 3), np.uint8)
    images[:, 19:22, 9:12] = 255
    images[:, 19:22, 29:32] = 255
    moved = Affine(45, 0.1)(images, draw(n=200))[..., 0]
    columns, rows = np.meshgrid(np.arange(41), np.arange(41))
    mass = moved.sum((1, 2))
    x, y = (moved * columns).sum((1, 2)) / mass - 20, (moved * rows).sum((1, 2)) / mass - 20
    assert np.abs(x).max() < 4.1 + 0.5
    assert np.abs(y).max() < 4.1 + 0.5
    assert np.abs(x).max() > 3
    spread_y = np.sqrt((moved * (rows - 20 - y[:, None, None]) ** 2).sum((1, 2)) / mass)
    angle = np.degrees(np.arcsin(np.clip(spread_y / 10, 0, 1)))
    assert angle.max() < 50
    assert angle.max() > 38


def test_jpeg_compresses_its_share_of_a_batch() -> None:
    images = np.random.default_rng(0).integers(0, 256, (400, 16, 16, 3), dtype=np.uint8)
    changed = (Jpeg(0.25)(images, draw(n=400)) != images).any((1, 2, 3))
    assert 0.15 < changed.mean() < 0.35
    assert not (Jpeg(0.0)(images, draw(n=400)) != images).any()


def test_jpeg_draws_qualities_from_its_range() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    compressed = Jpeg(1.0, 60, 62)(image.repeat(200, 0), draw(n=200))
    wanted = compress(image.repeat(3, 0), [60, 61, 62])
    matches = (compressed[:, None] == wanted).all((2, 3, 4))
    assert matches.any(1).all()  # each is of one of the three qualities
    assert matches.any(0).all()  # each of the three is drawn


def test_jpeg_keeps_the_dtype(images: np.ndarray) -> None:
    floats = images.astype(np.float32)
    compressed = Jpeg(1.0)(floats, draw())
    assert compressed.dtype == np.float32
    np.testing.assert_array_equal(compressed, Jpeg(1.0)(images, draw()))


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_compression_is_that_of_pillow_with_subsampled_chroma(quality: int) -> None:
    ramp = np.linspace(0, 255, 24).astype(np.uint8)
    image = np.stack([*np.meshgrid(ramp, ramp[::-1]), np.full((24, 24), 90, np.uint8)], axis=-1)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(file) as decoded:
        theirs = np.asarray(decoded).astype(int)
    apart = np.abs(compress(image[None], [quality])[0].astype(int) - theirs)
    assert apart.max() <= 8  # the two are of different builds of libjpeg-turbo
    assert apart.mean() < 1.5
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:4:4")
    with Image.open(file) as decoded:
        whole_chroma = np.asarray(decoded).astype(int)
    assert np.abs(whole_chroma - theirs).mean() > apart.mean()
