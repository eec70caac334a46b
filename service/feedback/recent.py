"""The latest answers with their images, by request: what a client may dispute without sending the image again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import numpy as np

from contract.preprocessing import Pixels
from service.inference.submission import Probabilities

_OVERHEAD: Final = 1024
"""Bytes that an entry takes beside its arrays, about."""
_LARGEST: Final = 8
"""A request that would take more than this part of the memory is not remembered."""


@dataclass(frozen=True)
class Answered:
    """A request's images and answers.

    Attributes:
        model, version, labels: what answered.
        images: uint8 (N, H, W, 3).
        probabilities: float32 (N, classes).
    """

    model: str
    version: int
    labels: tuple[str, ...]
    images: Pixels
    probabilities: Probabilities

    @property
    def size(self) -> int:
        """Bytes that it takes in memory."""
        return self.images.nbytes + self.probabilities.nbytes + _OVERHEAD


class RecentAnswers:
    """As many of the latest answers as fit into some memory; the oldest make room.

    Args:
        memory: bytes.
    """

    def __init__(self, memory: int) -> None:
        self._memory, self._held = memory, 0
        self._answers: OrderedDict[str, Answered] = OrderedDict()

    def add(self, request_id: str, answered: Answered) -> None:
        """Remember a request's answer; of two with one id, the later."""
        if answered.size * _LARGEST > self._memory:
            return
        before = self._answers.pop(request_id, None)
        if before:
            self._held -= before.size
        self._answers[request_id] = answered
        self._held += answered.size
        while self._held > self._memory:
            _, oldest = self._answers.popitem(last=False)
            self._held -= oldest.size

    def find(self, request_id: str) -> Answered | None:
        """A request's answer; None where it is not remembered, or not any more."""
        return self._answers.get(request_id)


def own(array: Pixels) -> Pixels:
    """The array, or a copy where it is a part of something larger, which would be kept with it."""
    base = array.base
    whole = base is None or (isinstance(base, np.ndarray) and base.nbytes == array.nbytes and base.base is None)
    return array if whole else array.copy()
