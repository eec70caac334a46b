"""Host and device apply the same parameters: their images differ by one level of 255 at most.

Run on TensorFlow here, and on JAX by `tests/training/test_on_jax.py`.
"""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from training.data import augment_on_device
from training.data.augment import Affine, ColourJitter, Cutout, Draw, Flip, Jpeg, ResizedCrop, Transform, Translate
from training.recipes import RECIPES

TRANSFORMS: list[Transform] = [
    Flip(),
    Flip(alternate=True),
    Translate(2),
    Translate(4),
    Cutout(8),
    ResizedCrop(),
    ResizedCrop(smallest=0.1, stretch=2.0),
    ColourJitter(),
    ColourJitter(0.8),
    Affine(),
    Affine(180, 0.5),
]


def photographs(count: int, height: int, width: int) -> np.ndarray:
    """Smooth and rough places, and the extremes."""
    rng = np.random.default_rng(height * width)
    rough = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    ramp = np.linspace(0, 255, width)[None, None, :, None] * rng.random((count, height, 1, 3))
    return np.where(rng.random((count, height, width, 1)) < 0.3, rough, ramp.astype(np.uint8))


def draw(count: int, epoch: int) -> Draw:
    rng = np.random.default_rng([5, epoch])
    return Draw(epoch, rng, rng.random(count) < 0.5)


def both(transforms: tuple[Transform, ...], images: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The images as host and as device make them."""
    randomness, (_, height, width, _) = draw(len(images), epoch), images.shape
    host, device = images, ops.convert_to_tensor(images)
    for transform in transforms:
        parameters = transform.draw(randomness, (height, width))
        host = transform.apply(host, parameters)
        device = augment_on_device.apply(transform, device, tuple(ops.convert_to_tensor(p) for p in parameters))
    return host, np.asarray(ops.convert_to_numpy(device))


@pytest.mark.parametrize("size", [(32, 32), (17, 24), (4, 5), (96, 128)], ids=str)
@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_host_and_device_agree(transform: Transform, size: tuple[int, int]) -> None:
    if isinstance(transform, Translate) and transform.pixels >= min(size):
        size = (7, 9)
    for epoch in range(2):
        images = photographs(24, *size)
        for given in (images, images.astype(np.float32)):
            host, device = both((transform,), given, epoch)
            assert host.dtype == device.dtype
            assert host.shape == device.shape
            assert np.abs(host.astype(float) - device).max() <= 1
            assert (host != given).any()


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_does_on_the_device_agrees(name: str) -> None:
    transforms = RECIPES[name].augmentation
    can = [augment_on_device.can(transform) for transform in transforms]
    chain = transforms[len(can) - can[::-1].index(False) :] if False in can else transforms
    host, device = both(chain, photographs(64, 32, 32), 1)
    assert np.abs(host.astype(float) - device).max() <= 1


def test_jpeg_is_the_hosts() -> None:
    assert not augment_on_device.can(Jpeg())
    assert all(augment_on_device.can(transform) for transform in TRANSFORMS)
