"""An image as a list of numbers: the network's last feature maps, pooled, at length one."""

from __future__ import annotations

import numpy as np

from contract.network import head
from contract.network.form import Form
from contract.network.graph import Array, Floats


def embed(form: Form, images: Array) -> Floats:
    """The last features of images; the scalar product of two is their cosine similarity.

    Maps are pooled as the network's head does it; where it weighs each position by itself, by their mean.

    Args:
        form: the network.
        images: (N, H, W, 3) of values 0 to 255.

    Returns:
        float32 (N, features).

    Raises:
        CannotExplain: the head is not linear, so that there are no last features.
    """
    tensor, pooling = head.find(form.graph, form.score)
    (values,) = form.tensors(images, [tensor])
    maps = form.graph.as_images(tensor, values)
    pooled = maps.max((1, 2)) if pooling == "max" else maps.mean((1, 2))
    length = np.linalg.norm(pooled, axis=1, keepdims=True)
    return np.asarray(pooled / np.where(length > 0, length, 1), np.float32)
