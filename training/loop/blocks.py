"""Blocks of steps: what one call on a device needs for many steps, made ahead on other threads."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from contract.cpu import cores
from training.data.augment import Batch, Parameters
from training.loop.batches import Batches, Plan

LONGEST: Final = 64
"""Steps in a block at most. A call cannot be interrupted: on a GPU so many steps take a fraction of a second."""
STREAMED_BYTES: Final = 2**28
"""Bytes of images in a block at most. Three blocks are in memory: one is trained on, one waits, one is made."""

Rows = dict[str, Any]
"""Arrays by name, nested in tuples; the first dimension is the step's place in the block."""


@dataclass(frozen=True)
class Block:
    """Consecutive steps of one epoch.

    Attributes:
        first: its first step, counted from the beginning of the run.
        steps: how many of its rows are steps; the rest repeats the last one, so that all blocks have one length.
        rows: `targets`, int32 (length, N); `parameters`, a tuple for each transform that is left to the device;
            and `chosen`, int32 (length, N), positions of images in the training split, or `images` themselves.
    """

    first: int
    steps: int
    rows: Rows


class Blocks:
    """The blocks of a run; while one is used, the next one is made.

    Args:
        batches: the run's.
        on_host: how many of the transforms, from the first on, are applied here to images that the blocks hold; None:
            the blocks hold positions of images, and all transforms are left to the device.
        place: brings rows to the device.

    Attributes:
        length: rows in each block.
    """

    def __init__(self, batches: Batches, on_host: int | None, place: Callable[[Rows], Rows]) -> None:
        self._batches, self._on_host, self._place = batches, on_host, place
        longest = LONGEST
        if on_host is not None:
            longest = max(1, min(longest, STREAMED_BYTES // (batches.images_size // len(batches.split) * batches.size)))
        self.length = math.ceil(batches.per_epoch / math.ceil(batches.per_epoch / longest))
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="blocks")
        self._workers = ThreadPoolExecutor(cores(), thread_name_prefix="augment")
        self._next: tuple[int, Future[Block]] | None = None

    def bounds(self, step: int) -> tuple[int, int]:
        """Return the first step of the block that holds `step`, and the one behind its last."""
        epoch, place = divmod(step, self._batches.per_epoch)
        first = step - place % self.length
        return first, min(first + self.length, (epoch + 1) * self._batches.per_epoch)

    def holding(self, step: int) -> Block:
        """Return the block that holds a step."""
        first, end = self.bounds(step)
        coming = self._next[1] if self._next and self._next[0] == first else self._maker.submit(self._make, first)
        block = coming.result()
        self._next = end, self._maker.submit(self._make, end)
        return block

    def close(self) -> None:
        """Stop making blocks."""
        self._maker.shutdown(cancel_futures=True)
        self._workers.shutdown(cancel_futures=True)

    def _make(self, first: int) -> Block:
        end = self.bounds(first)[1]
        plans = [self._batches.plan(step) for step in range(first, end)]
        plans += [plans[-1]] * (self.length - len(plans))
        chosen = np.stack([plan.chosen for plan in plans]).astype(np.int32)
        rows: Rows = {
            "targets": self._batches.split.targets[chosen].astype(np.int32),
            "parameters": _stacked([plan.parameters[self._on_host :] for plan in plans]),
        }
        if self._on_host is None:
            rows["chosen"] = chosen
        else:
            rows["images"] = self._images(plans[: end - first])
        return Block(first, end - first, self._place(rows))

    def _images(self, plans: list[Plan]) -> Batch:
        """Images after the host's transforms, (length, N, H, W, 3); made in parts of batches, on all cores."""
        size = self._batches.size
        edges = np.linspace(0, size, math.ceil(2 * cores() / len(plans)) + 1).round().astype(int).tolist()
        parts = [(row, begin, end) for row in range(len(plans)) for begin, end in pairwise(edges) if begin < end]

        def made(part: tuple[int, int, int]) -> Batch:
            row, begin, end = part
            return self._batches.augmented(plans[row].part(begin, end), self._on_host)

        first = made(parts[0])  # of the type that the host's transforms return
        images = np.zeros((self.length, size, *first.shape[1:]), first.dtype)

        def fill(part: tuple[int, int, int]) -> None:
            row, begin, end = part
            images[row, begin:end] = made(part)

        for _ in self._workers.map(fill, parts):
            pass
        return images


def _stacked(parameters: list[tuple[Parameters, ...]]) -> tuple[tuple[npt.NDArray[Any], ...], ...]:
    """The parameters of each transform, with the steps as the first dimension; JAX has no 64 bits."""
    return tuple(
        tuple(_narrow(np.stack(arrays)) for arrays in zip(*transform, strict=True))
        for transform in zip(*parameters, strict=True)
    )


def _narrow(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.astype(np.int32) if array.dtype == np.int64 else array
