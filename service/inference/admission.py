"""Admission control: which images may join a model's queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

QUEUE_SHARE: Final = 0.5
"""The largest part of a request's time that it may spend in the queue; its own run, the reply and a wrong estimate of
the queue may take the rest."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The rule by which images are admitted to a queue, or rejected with 503.

    Attributes:
        max_queue: images that may wait.
    """

    max_queue: int

    def admits(self, images: int, *, waiting: int, seconds_per_image: float, time_left: float) -> bool:
        """Whether images may join the queue.

        Args:
            images: how many there are.
            waiting: images in the queue before them. Where none waits, any number is admitted: a request larger than
                the queue could never be answered otherwise.
            seconds_per_image: what the model has taken of late.
            time_left: seconds until the answer is of no use.

        Example:
            >>> Admission(max_queue=8).admits(1, waiting=4, seconds_per_image=0.1, time_left=1.0)
            True
            >>> Admission(max_queue=8).admits(1, waiting=6, seconds_per_image=0.1, time_left=1.0)
            False
        """
        if not waiting:
            return True
        return waiting + images <= self.max_queue and waiting * seconds_per_image <= QUEUE_SHARE * time_left
