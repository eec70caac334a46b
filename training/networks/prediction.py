"""A network's answers to one batch, on one device or on several that share it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt


def outputs(model: keras.Model, images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return a model's outputs for one batch.

    Args:
        model: (N, H, W, 3), values 0 to 255 -> (N, ...).
        images: (N, H, W, 3), uint8 or float32. Where several devices share a batch, it is filled up, so that each has
            as many images.

    Returns:
        float32 (N, ...).
    """
    x = np.asarray(images, np.float32)
    distribution = keras.distribution.distribution()
    missing = -len(x) % (distribution.device_mesh.devices.size if distribution else 1)
    if missing:
        x = np.concatenate([x, np.repeat(x[-1:], missing, axis=0)])
    values = np.asarray(keras.ops.convert_to_numpy(model.predict_on_batch(x)), np.float32)
    return values[: len(images)]
