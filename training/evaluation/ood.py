"""Images of nothing that a model knows, and the probability below which its answer is called unsure.

A network answers whatever it is shown, often surely (Nguyen et al. 2015, arXiv:1412.1897). The probability of its best
class tells what it knows from what it does not, not perfectly but cheaply (Hendrycks and Gimpel 2017,
arXiv:1610.02136); here that probability is calibrated, and the threshold is fitted.
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
from training.data.split import Split
from training.evaluation.calibrate import Floats, softmax

LARGEST_LOSS: Final = 0.05
"""The share of rightly answered held-out images that may be called unsure."""
_EACH: Final = 300
_SEED: Final = 20180521
_TILES: Final = 4


@dataclass(frozen=True)
class Doubt:
    """What a model is to be unsure of.

    Attributes:
        threshold: an answer of a lower probability is unsure; 0 to 1.
        right: the share of rightly answered held-out images that it calls unsure.
        wrong: the same of wrongly answered ones.
        unknown: the same of each kind of unknown images.
    """

    threshold: float
    right: float
    wrong: float
    unknown: dict[str, float]

    def describe(self) -> Unsure:
        """For a card."""
        unknown = {kind: round(share, 4) for kind, share in self.unknown.items()}
        return Unsure(right=round(self.right, 4), wrong=round(self.wrong, 4), unknown=unknown)


def images(like: Pixels) -> dict[str, Pixels]:
    """Unknown images, the same ones each time.

    Args:
        like: known images, uint8 (N, H, W, 3), for size and number; 300 are enough.

    Returns:
        By kind, uint8 (300 or N, H, W, 3): noise of every coarseness, stripes, clouds of every colour, and known
        images cut into four by four tiles that were shuffled.
    """
    rng = np.random.default_rng(_SEED)
    like = like[rng.permutation(len(like))[:_EACH]]
    n, height, width, _ = like.shape
    return {
        "noise": np.stack([_noise(rng, height, width) for _ in range(n)]),
        "stripes": np.stack([_stripes(rng, height, width) for _ in range(n)]),
        "clouds": np.stack([_clouds(rng, height, width) for _ in range(n)]),
        "shuffled tiles": np.stack([_shuffled(rng, image) for image in like]),
    }


def read(folder: Path, size: tuple[int, int], resize_mode: preprocessing.ResizeMode) -> Pixels:
    """Images of other things, uint8 (300 at most, H, W, 3), from a folder and the folders in it.

    Args:
        folder: what is no readable image in it is passed over.
        size, resize_mode: how a model takes images.

    Raises:
        UsageError: there is no such folder, or no image in it.
    """
    paths = files.images(folder) if folder.is_dir() else []
    found: list[Pixels] = []
    for index in np.random.default_rng(_SEED).permutation(len(paths)):
        with suppress(ImageError, OSError):
            found.append(preprocessing.read(files.contents(paths[index]), *size, resize_mode))
        if len(found) == _EACH:
            break
    if not found:
        raise UsageError(f"{folder} has no images: give a folder of images of what the model is not to know")
    return np.stack(found)


def doubt(
    logits: Callable[[Pixels], Floats], temperature: float, held_out: Split, other: Pixels | None = None
) -> Doubt:
    """Fit the threshold.

    It is where the share of unknown images called unsure, less the share of rightly answered held-out ones, is
    largest (Youden 1950), as long as no more than `LARGEST_LOSS` of the latter are.

    Args:
        logits: the model: uint8 (N, H, W, 3) -> (N, classes).
        temperature: what its logits are divided by.
        held_out: images that were not trained on.
        other: further images of what the model does not know, of the same size.
    """

    def surest(of: Pixels) -> npt.NDArray[np.float64]:
        return np.asarray(softmax(logits(of), temperature).max(1), np.float64)

    raw = logits(held_out.images)
    known = np.asarray(softmax(raw, temperature).max(1), np.float64)
    is_right = raw.argmax(1) == held_out.targets
    unknown = {**images(held_out.images), **({} if other is None else {"other data": other})}
    strange = {kind: surest(some) for kind, some in unknown.items()}

    def gain(threshold: float) -> float:
        found = np.mean([_share(values, threshold) for values in strange.values()])
        return float(found) - _share(known[is_right], threshold)

    # a threshold between two neighbours says the same as the upper one: only these need be tried
    tried = np.unique(np.round(np.concatenate([[0.0], *strange.values()]), 4))
    allowed = [float(t) for t in tried if _share(known[is_right], t) <= LARGEST_LOSS]
    threshold = max(allowed, key=gain)
    return Doubt(
        threshold=threshold,
        right=_share(known[is_right], threshold),
        wrong=_share(known[~is_right], threshold),
        unknown={kind: _share(values, threshold) for kind, values in strange.items()},
    )


def _share(values: npt.NDArray[np.float64], threshold: float) -> float:
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
    one, other = rng.uniform(0, 255, (2, 3))
    return _pixels(share[..., None] * one + (1 - share[..., None]) * other)


def _clouds(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Noise whose strength falls with its frequency, as that of natural images does, but of no thing."""
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
