"""How much of an answer depends on the places that a map names: insertion, deletion (RISE) and ROAD; control maps.

Insertion and deletion after Petsiuk et al. 2018 (arXiv:1806.07421), ROAD after Rong et al. 2022 (arXiv:2202.00449).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import linalg, ndimage

from contract.preprocessing import Pixels

Map = npt.NDArray[np.float64]
"""A value for each pixel, (H, W): the higher, the more it speaks for the answer."""
Score = Callable[[Pixels], npt.NDArray[np.float64]]
"""The probability of the answer for each of some images, uint8 (N, H, W, 3)."""

ROAD_SHARES: Final = (0.2, 0.4, 0.6, 0.8)
"""Shares of the pixels that are removed: what pytorch-grad-cam takes, too."""
ROAD_NOISE: Final = 0.01 * 255
"""Standard deviation of what is added to pixels that are filled in: the paper's, for values 0 to 255."""
_NEIGHBOURS: Final = ((0, 1, 1 / 6), (1, 0, 1 / 6), (1, 1, 1 / 12), (1, -1, 1 / 12))
"""Half of a pixel's neighbours (rows down, columns right), with the paper's weights; the other half mirrors them."""


def order(importance: Map, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """The pixels, flattened, from the most important to the least; among equal ones by chance."""
    shuffled = rng.permutation(importance.size)
    return shuffled[np.argsort(-importance.ravel()[shuffled], kind="stable")]


def between(start: Pixels, end: Pixels, first: npt.NDArray[np.intp], pixels: int) -> Pixels:
    """Images on the way from one to the other, uint8 (H, W, 3), `pixels` more of them in the given order at each step.

    Returns:
        uint8 (steps + 1, H, W, 3), with both ends.
    """
    rank = np.empty(first.size, np.intp)
    rank[first] = np.arange(first.size)
    done = np.minimum(np.arange(0, first.size + pixels, pixels), first.size)
    changed = (rank[None] < done[:, None]).reshape(-1, *start.shape[:2], 1)
    return np.where(changed, end, start)


def area(scores: npt.NDArray[np.float64]) -> float:
    """The area under scores at equal steps, by the trapezoidal rule, as a share of the way."""
    return float((scores.sum() - scores[0] / 2 - scores[-1] / 2) / (len(scores) - 1))


def blurred(image: Pixels, sigma: float) -> Pixels:
    """An image, uint8 (H, W, 3), where insertion begins."""
    smooth = ndimage.gaussian_filter(image.astype(np.float64), (sigma, sigma, 0))
    return np.asarray(np.rint(smooth), np.uint8)


def filled_in(image: Pixels, removed: npt.NDArray[np.bool_], rng: np.random.Generator) -> Pixels:
    """An image, uint8 (H, W, 3), whose removed pixels, bool (H, W), are weighted means of their neighbours, with noise.

    All of them solve one linear system. It is symmetric, so that it has a banded Cholesky factorisation; a pixel that
    is kept equals itself.
    """
    height, width = removed.shape
    bands = np.zeros((width + 2, height * width))  # LAPACK's lower form: bands[d, i] couples pixels i and i + d
    known = np.where(removed[..., None], 0.0, image.astype(np.float64))
    diagonal, right = np.where(removed, 0.0, 1.0), known.copy()
    for down, across, weight in _NEIGHBOURS:
        near = np.s_[: height - down, max(0, -across) : width - max(0, across)]
        there = np.s_[down:, max(0, across) : width - max(0, -across)]
        for first, other in ((near, there), (there, near)):
            diagonal[first] += weight * removed[first]
            right[first] += weight * removed[first][..., None] * known[other]
        both = np.zeros((height, width))
        both[near] = -weight * (removed[near] & removed[there])
        bands[down * width + across] = both.ravel()
    bands[0] = diagonal.ravel()
    solved = linalg.solveh_banded(bands, right.reshape(-1, image.shape[2]), lower=True, overwrite_ab=True)
    noisy = solved.reshape(image.shape) + rng.normal(0, ROAD_NOISE, image.shape)
    return np.where(removed[..., None], np.clip(np.rint(noisy), 0, 255).astype(np.uint8), image)


def scores(
    importance: Map, image: Pixels, start: Pixels, grey: Pixels, score: Score, pixels: int, rng: np.random.Generator
) -> dict[str, float]:
    """Insertion, deletion and ROAD of a map.

    Args:
        importance: the map.
        image: uint8 (H, W, 3).
        start: where insertion begins.
        grey: where deletion ends.
        score: what the model gives.
        pixels: that change at each step of insertion and deletion.
        rng: for ties and noise.

    Returns:
        `insertion`, higher is better; `deletion`, lower is better; `road`: the mean over `ROAD_SHARES` of the score
        without the least important pixels, minus that without the most important ones; higher is better, 0 is chance.
    """
    first = order(importance, rng)
    inserted, deleted = between(start, image, first, pixels), between(image, grey, first, pixels)
    without = []
    for ranks in (first[::-1], first):
        for share in ROAD_SHARES:
            removed = np.zeros(first.size, bool)
            removed[ranks[: round(share * first.size)]] = True
            without.append(filled_in(image, removed.reshape(importance.shape), rng))
    values = score(np.concatenate([inserted, deleted, np.stack(without)]))
    ins, dele, least, most = np.split(values, np.cumsum([len(inserted), len(deleted), len(ROAD_SHARES)]))
    return {"insertion": area(ins), "deletion": area(dele), "road": float((least - most).mean())}


def smooth(importance: Map) -> Map:
    """A map blurred by a sixteenth of its side: ROAD favours such maps."""
    return np.asarray(ndimage.gaussian_filter(importance.astype(np.float64), max(importance.shape) / 16))


def controls(image: Pixels, rng: np.random.Generator) -> dict[str, Map]:
    """Maps that know nothing of the model."""
    height, width = image.shape[:2]
    rows, columns = np.ogrid[:height, :width]
    distance = ((rows - (height - 1) / 2) / height) ** 2 + ((columns - (width - 1) / 2) / width) ** 2
    grey = image.astype(np.float64).mean(2)
    return {
        "random": rng.random((height, width)),
        "random, blurred": smooth(rng.random((height, width))),
        "centred Gaussian": np.exp(-distance * 8),  # a standard deviation of a quarter of the side
        "edges": np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1)),
    }


def interval(values: npt.NDArray[Any], seed: int = 0, resamples: int = 2000) -> tuple[float, float, float]:
    """The mean of values of images, and its 95 % percentile bootstrap interval over the images."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (resamples, len(values)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(values.mean()), float(low), float(high)
