"""Accuracy on corrupted images: JPEG compression, blur, noise and brightness.

After Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"
(arXiv:1903.12261). Blur, noise and brightness have severity 3 of 5: the values of CIFAR-10-C for images below 64
pixels, those of ImageNet-C for larger ones (`make_cifar_c.py` and `make_imagenet_c.py` in hendrycks/robustness). JPEG
has the qualities 75, which most programs save with, and 50; the paper's severities for CIFAR-10-C go from 80 to 40.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from contract.bundle import INPUT, LOGITS, Bundle
from contract.card import Corruptions
from contract.errors import BundleError
from contract.preprocessing import Pixels
from contract.session import open_session
from training.data.jpeg import compress
from training.data.split import Split

MOST_IMAGES: Final = 10_000
MOST_PIXELS: Final = 20_000_000
"""Of a large split, a sample: at most so many images, and so many pixels (398 images of 224×224)."""
_LARGE: Final = 64
"""Pixels: from this side on, the values are those of ImageNet-C."""
_CHUNK: Final = 500

Corrupt = Callable[[Pixels, np.random.Generator], Pixels]
"""uint8 (N, H, W, 3) in, the same out; the generator is for what is random."""


def corruptions(side: int) -> dict[str, Corrupt]:
    """The corruptions by name, for images whose shorter side has so many pixels."""
    large = side >= _LARGE
    return {
        "JPEG 75": partial(jpeg, quality=75),
        "JPEG 50": partial(jpeg, quality=50),
        "blur": partial(gaussian_blur, sigma=3.0 if large else 0.7),
        "noise": partial(gaussian_noise, deviation=0.18 if large else 0.08),
        "brightness": partial(brightness, added=0.3 if large else 0.15),
    }


def jpeg(images: Pixels, _: np.random.Generator, *, quality: int) -> Pixels:
    """Encoded as JPEG of that quality with 4:2:0 chroma subsampling, and decoded."""
    return compress(images, [quality] * len(images))


def gaussian_blur(images: Pixels, _: np.random.Generator, *, sigma: float) -> Pixels:
    """Blurred with a Gaussian of that standard deviation, in pixels (Pillow's approximation by box blurs)."""
    blur = ImageFilter.GaussianBlur(sigma)
    return np.stack([np.asarray(Image.fromarray(image).filter(blur)) for image in images])


def gaussian_noise(images: Pixels, rng: np.random.Generator, *, deviation: float) -> Pixels:
    """Normal noise added to every value, with that standard deviation; values are in [0, 1]."""
    noise = rng.standard_normal(images.shape, np.float32) * deviation * 255
    return _pixels(images + noise)


def brightness(images: Pixels, _: np.random.Generator, *, added: float) -> Pixels:
    """That much added to the value V of HSV, in [0, 1]; hue and saturation stay."""
    values = images.astype(np.float32) / 255
    value = values.max(-1, keepdims=True)
    brighter = np.minimum(value + added, 1)
    scaled = np.divide(values * brighter, value, out=np.broadcast_to(brighter, values.shape).copy(), where=value > 0)
    return _pixels(scaled * 255)


def measure(
    bundle: Bundle,
    split: Split,
    name: str,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Corruptions:
    """Accuracy of a bundle on the same images, clean and with each corruption.

    Args:
        bundle: the bundle.
        split: images of the size that the bundle takes. Of more than `MOST_IMAGES` images or `MOST_PIXELS` pixels, a
            random sample is taken.
        name: of the split, for the card.
        seed: of the sample and of the noise.
        progress: called with images done and in all.

    Raises:
        BundleError: the model does not load, or its logits are not finite.
    """
    height, width = split.images.shape[1:3]
    most = max(1, min(MOST_IMAGES, MOST_PIXELS // (height * width)))
    rng = np.random.default_rng(seed)
    sample = split
    if len(split) > most:
        sample = split.take(np.sort(rng.choice(len(split), most, replace=False)))
    kinds: dict[str, Corrupt] = {"clean": lambda images, _: images, **corruptions(min(height, width))}
    right = dict.fromkeys(kinds, 0)
    session = open_session(bundle, outputs=(LOGITS,))
    chunks = math.ceil(len(sample) / _CHUNK)
    for chunk, index in enumerate(np.array_split(np.arange(len(sample)), chunks)):
        part = sample.take(index)
        for place, (kind, corrupt) in enumerate(kinds.items()):
            (logits,) = session.run([LOGITS], {INPUT: corrupt(np.asarray(part.images), rng)})
            if not np.isfinite(logits).all():
                raise BundleError(f"{bundle.model} returns values that are not finite: its weights are damaged")
            right[kind] += int((logits.argmax(1) == part.targets).sum())
            progress(chunk * len(kinds) + place + 1, chunks * len(kinds))
    accuracy = {kind: round(count / len(sample), 4) for kind, count in right.items()}
    return Corruptions(split=name, images=len(sample), accuracy=accuracy)


def _pixels(values: npt.NDArray[np.floating[Any]]) -> Pixels:
    rounded: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded
