"""Several devices that share each batch, by Keras' distribution API: data parallelism, on JAX.

Each device has the whole network. The gradients and the statistics of batch normalisation are those of the whole batch,
so a run on several devices is that on one, but for the order of sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras


def devices() -> list[str]:
    """Return the devices that can share a batch, as Keras names them: all GPUs, or else all CPU devices, of JAX."""
    return list(keras.distribution.list_devices()) if keras.backend.backend() == "jax" else []


@contextmanager
def shared(batch_size: int) -> Iterator[int]:
    """In this block models are built and trained on as many of the devices as divide a batch; yields how many.

    `CUDA_VISIBLE_DEVICES` says which GPUs there are.

    Args:
        batch_size: images a step.
    """
    names = devices()
    count = max((count for count in range(1, len(names) + 1) if batch_size % count == 0), default=1)
    if count == 1:
        yield 1
        return
    with keras.distribution.DataParallel(devices=names[:count]).scope():
        yield count
