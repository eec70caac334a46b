"""Out-of-distribution images, and the rejection threshold below which an answer is called unsure.

A network answers whatever image it is given, often with high confidence (Nguyen et al. 2015, arXiv:1412.1897). The
probability of its most probable class separates known from out-of-distribution images, not perfectly but cheaply
(Hendrycks and Gimpel 2017, arXiv:1610.02136). Here that probability is calibrated, and the threshold is fitted.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from contract import files, preprocessing
from contract.card import Unsure
from contract.errors import ImageError, UsageError
from contract.preprocessing import Pixels
from training.evaluation.calibrate import Floats, softmax

LARGEST_LOSS: Final = 0.06
"""The largest fraction of correctly classified held-out images that may be rejected."""
_IMAGES_PER_KIND: Final = 300
_SEED: Final = 20180521
_TILES: Final = 4
_RESOLUTION: Final = 1e-4
"""Thresholds are multiples of this."""


@dataclass(frozen=True)
class Rejection:
    """A rejection threshold and what it rejects.

    Attributes:
        threshold: an answer whose probability is lower is rejected as unsure; 0 to 1.
        right: fraction of correctly classified held-out images that is rejected.
        wrong: fraction of misclassified held-out images that is rejected.
        ood: fraction of out-of-distribution images that is rejected, by kind.
    """

    threshold: float
    right: float
    wrong: float
    ood: dict[str, float]

    def describe(self) -> Unsure:
        """For a card: fractions rounded to a hundredth of a percent."""
        ood = {kind: round(share, 4) for kind, share in self.ood.items()}
        return Unsure(right=round(self.right, 4), wrong=round(self.wrong, 4), unknown=ood)


def synthetic_images(like: Pixels) -> dict[str, Pixels]:
    """Make out-of-distribution images, the same ones each time.

    Args:
        like: known images, uint8 (N, H, W, 3), for size and number; 300 are enough.

    Returns:
        By kind, uint8 (300 or N, H, W, 3): noise of every coarseness, stripes, clouds of every colour, and known
        images cut into four by four tiles that were shuffled.
    """
    rng = np.random.default_rng(_SEED)
    like = like[rng.permutation(len(like))[:_IMAGES_PER_KIND]]
    n, height, width, _ = like.shape
    return {
        "noise": np.stack([_noise(rng, height, width) for _ in range(n)]),
        "stripes": np.stack([_stripes(rng, height, width) for _ in range(n)]),
        "clouds": np.stack([_clouds(rng, height, width) for _ in range(n)]),
        "shuffled tiles": np.stack([_shuffled(rng, image) for image in like]),
    }


def read_folder(folder: Path, size: tuple[int, int], resize_mode: preprocessing.ResizeMode) -> Pixels:
    """Read out-of-distribution images, uint8 (300 at most, H, W, 3), from a folder and its subfolders.

    Args:
        folder: files in it that are not readable images are ignored.
        size, resize_mode: how the model takes images.

    Raises:
        UsageError: there is no such folder, or no image in it.
    """
    paths = files.images(folder, on_error=lambda error: None) if folder.is_dir() else []
    images: list[Pixels] = []
    for index in np.random.default_rng(_SEED).permutation(len(paths)):
        with suppress(ImageError, OSError):
            images.append(preprocessing.read(files.contents(paths[index]), *size, resize_mode))
        if len(images) == _IMAGES_PER_KIND:
            break
    if not images:
        raise UsageError(f"{folder} has no images: give a folder of images that belong to none of the classes")
    return np.stack(images)


@dataclass(frozen=True)
class Confidence:
    """The confidence of answers to held-out images.

    Attributes:
        probability: (N,), of each answer.
        is_right: bool (N,).
    """

    probability: npt.NDArray[np.float64]
    is_right: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, logits: Floats, targets: npt.NDArray[np.int64], temperature: float) -> Confidence:
        """The confidence of logits (N, classes) at a temperature."""
        probability = np.asarray(softmax(logits, temperature).max(1), np.float64)
        return cls(probability, logits.argmax(1) == targets)


def fit_threshold(
    logits: Callable[[Pixels], Floats],
    temperature: float,
    held_out: Confidence,
    like: Pixels,
    other: Pixels | None = None,
    *,
    threshold: float | None = None,
) -> Rejection:
    """Fit the rejection threshold.

    It maximises the fraction that is rejected of out-of-distribution images plus that of misclassified held-out images
    minus that of correctly classified ones (after Youden 1950); the last is `LARGEST_LOSS` at most.

    Args:
        logits: the model: uint8 (N, H, W, 3) -> (N, classes).
        temperature: what its logits are divided by.
        held_out: the confidence of its answers to images that were not trained on.
        like: known images, uint8 (N, H, W, 3), that synthetic images are made from.
        other: further out-of-distribution images of the same size.
        threshold: a threshold that is known already: what it rejects is counted. None: it is fitted.
    """

    def confidence(images: Pixels) -> npt.NDArray[np.float64]:
        return np.asarray(softmax(logits(images), temperature).max(1), np.float64)

    images = {**synthetic_images(like), **({} if other is None else {"other data": other})}
    ood = {kind: confidence(batch) for kind, batch in images.items()}
    right, wrong = held_out.probability[held_out.is_right], held_out.probability[~held_out.is_right]

    def gain(threshold: float) -> float:
        rejected = np.mean([_rejected(values, threshold) for values in ood.values()])
        return float(rejected) + _rejected(wrong, threshold) - _rejected(right, threshold)

    if threshold is None:
        # a threshold between two neighbouring probabilities rejects the same images as the upper one: only these are
        # tried, and what lies right above a wrong answer's
        candidates = np.unique(np.round(np.concatenate([[0.0], wrong + _RESOLUTION, *ood.values()]), 4))
        allowed = [float(t) for t in candidates if _rejected(right, t) <= LARGEST_LOSS]
        threshold = max(allowed, key=gain)
    return Rejection(
        threshold=threshold,
        right=_rejected(right, threshold),
        wrong=_rejected(wrong, threshold),
        ood={kind: _rejected(values, threshold) for kind, values in ood.items()},
    )


def _rejected(values: npt.NDArray[np.float64], threshold: float) -> float:
    return float((values < threshold).mean()) if len(values) else 0.0


def _noise(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Independent pixels, or blocks of them, in one of many contrasts."""
    block = int(rng.integers(1, max(2, min(height, width) // 4)))
    shape = (-(-height // block), -(-width // block), 3 if rng.random() < 0.7 else 1)
    values = rng.uniform(0, 255) + rng.normal(0, rng.uniform(10, 120), shape)
    values = np.broadcast_to(values, (*shape[:2], 3)).repeat(block, 0).repeat(block, 1)
    return _pixels(values[:height, :width])


def _stripes(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A wave of any direction and length between two colours, sometimes with a sharp edge."""
    y, x = np.mgrid[:height, :width]
    angle, waves = rng.uniform(0, np.pi), rng.uniform(0.5, 10)
    wave = np.sin(2 * np.pi * waves * (np.cos(angle) * x / width + np.sin(angle) * y / height) + rng.uniform(0, 6))
    share = (wave > 0) if rng.random() < 0.5 else (wave + 1) / 2
    first, second = rng.uniform(0, 255, (2, 3))
    return _pixels(share[..., None] * first + (1 - share[..., None]) * second)


def _clouds(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Noise whose amplitude falls with its frequency, as in natural images, but without any object."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]) + 1 / max(height, width)
    spectrum = np.fft.rfft2(rng.normal(size=(3, height, width))) / frequency ** rng.uniform(0.7, 2)
    planes = np.fft.irfft2(spectrum, (height, width)).transpose(1, 2, 0)
    mixed = planes @ rng.normal(size=(3, 3))  # colours that go together
    return _pixels(rng.uniform(60, 200) + (mixed - mixed.mean()) / mixed.std() * rng.uniform(15, 70))


def _shuffled(rng: np.random.Generator, image: Pixels) -> Pixels:
    """The image's own tiles in another order."""
    tall, wide = max(1, image.shape[0] // _TILES), max(1, image.shape[1] // _TILES)
    rows, columns = image.shape[0] // tall, image.shape[1] // wide
    inner = image[: rows * tall, : columns * wide]
    tiles = inner.reshape(rows, tall, columns, wide, 3).transpose(0, 2, 1, 3, 4).reshape(-1, tall, wide, 3)
    tiles = tiles[rng.permutation(len(tiles))].reshape(rows, columns, tall, wide, 3)
    out = image.copy()
    out[: rows * tall, : columns * wide] = tiles.transpose(0, 2, 1, 3, 4).reshape(inner.shape)
    return out


def _pixels(values: npt.NDArray[Any]) -> Pixels:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
