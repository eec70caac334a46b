"""What a backbone makes of images, computed once and cached."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

from contract.preprocessing import Pixels
from training.data import cache
from training.networks import prediction

_BATCH_PIXELS: Final = 2**21
"""Pixels that one batch has at most: the first planes of a backbone take a kilobyte for each."""


def features(
    model: keras.Model,
    images: Pixels,
    weights: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> npt.NDArray[np.float32]:
    """Features of images, from the cache where they have been computed before.

    Args:
        model: (N, H, W, 3), values 0 to 255 -> (N, count).
        images: uint8 (N, H, W, 3), in memory or on disk.
        weights: the checksum of the model's weights; with the images' own it is the cache's key.
        progress: called with images done and in all.

    Returns:
        float32 (N, count).
    """
    batch = max(1, _BATCH_PIXELS // (images.shape[1] * images.shape[2]))
    starts = range(0, len(images), batch)
    digest = hashlib.sha256(f"{weights} {images.shape}".encode())
    for start in starts:
        digest.update(np.ascontiguousarray(images[start : start + batch]).data)
    path = cache.home() / f"features-{digest.hexdigest()[:32]}.npy"
    try:
        kept: npt.NDArray[np.float32] = np.load(path, allow_pickle=False)
        if kept.shape == (len(images), *model.output_shape[1:]):
            return kept
    except (OSError, ValueError, EOFError):
        pass  # absent, or damaged: computed anew and written over
    parts = []
    for start in starts:
        some = images[start : start + batch]
        parts.append(prediction.outputs(model, some))
        progress(start + len(some), len(images))
    outputs = np.concatenate(parts)
    _write(path, outputs)
    return outputs


def _write(path: Any, values: npt.NDArray[np.float32]) -> None:
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("wb") as file:
            np.save(file, values)
        os.replace(new, path)
    except OSError:  # the cache only saves time: on a full or read-only disk they are computed again
        with suppress(OSError):
            new.unlink()
