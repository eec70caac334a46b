"""Compare two bundles on the same images: accuracy with a paired test, calibration, speed and size."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnxruntime

from contract.bundle import INPUT, PROBABILITIES, Bundle
from contract.preprocessing import Pixels
from contract.session import open_session
from training.data.split import Split
from training.evaluation import evaluate
from training.evaluation.evaluate import Evaluation

_ROUNDS: Final = 15
_RUNS: Final = 20


@dataclass(frozen=True)
class Speed:
    """Speed of two bundles, measured in turns.

    Attributes:
        milliseconds: median time of one image on one thread, of each bundle.
        ratio: how many times as fast the second is, the median over the turns.
        spread: the lowest and the highest ratio of a turn.
    """

    milliseconds: tuple[float, float]
    ratio: float
    spread: tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """Two bundles on the same images.

    Attributes:
        scores: the evaluation of each.
        only: how many images only the first classifies correctly, and only the second.
        difference: the second's accuracy minus the first's, and its 95 % interval for paired images.
        p_value: of McNemar's exact test: the probability of at least such a difference if both were equally accurate.
        speed: of both, measured in turns.
        size: bytes of each model.
    """

    scores: tuple[Evaluation, Evaluation]
    only: tuple[int, int]
    difference: tuple[float, float, float]
    p_value: float
    speed: Speed
    size: tuple[int, int]

    def describe(self) -> dict[str, Any]:
        """The comparison for JSON; fractions are rounded."""
        return {
            "images": self.scores[0].images,
            "split": self.scores[0].split,
            "accuracy": [round(score.accuracy, 4) for score in self.scores],
            "interval": [[round(end, 4) for end in score.interval] for score in self.scores],
            "calibration_error": [round(score.calibration_error, 4) for score in self.scores],
            "right_alone": list(self.only),
            "difference": [round(value, 4) for value in self.difference],
            "p_value": self.p_value,
            "latency_ms": [round(value, 3) for value in self.speed.milliseconds],
            "speed_ratio": [round(value, 3) for value in (self.speed.ratio, *self.speed.spread)],
            "bytes": list(self.size),
        }


def compare(first: Bundle, second: Bundle, splits: tuple[Split, Split], name: str) -> Comparison:
    """Score and time two bundles.

    Args:
        first, second: the bundles.
        splits: the same images in the same order, once as each bundle takes them; see `shared_split`.
        name: the split's name.
    """
    scores = evaluate.evaluate(first, splits[0], name), evaluate.evaluate(second, splits[1], name)
    correct = [score.probabilities.argmax(1) == score.targets for score in scores]
    only = int((correct[0] & ~correct[1]).sum()), int((correct[1] & ~correct[0]).sum())
    return Comparison(
        scores=scores,
        only=only,
        difference=difference(only, scores[0].images),
        p_value=mcnemar(*only),
        speed=speed(first, second),
        size=(first.model.stat().st_size, second.model.stat().st_size),
    )


def difference(only: tuple[int, int], images: int) -> tuple[float, float, float]:
    """Return the second's accuracy minus the first's, and its 95 % interval (Wald's, for paired fractions).

    Args:
        only: how many images only the first classifies correctly, and only the second.
        images: how many there were.
    """
    first, second = only
    middle = (second - first) / images
    half = 1.959964 * math.sqrt(first + second - (second - first) ** 2 / images) / images
    return middle, middle - half, middle + half


def mcnemar(first: int, second: int) -> float:
    """Return the p-value of McNemar's exact two-sided test (1947).

    Args:
        first, second: how many images only the first, or only the second, classifies correctly.
    """
    total = first + second
    tail = sum(math.comb(total, k) for k in range(min(first, second) + 1))
    return min(1.0, float(2 * tail / 2**total))


def speed(first: Bundle, second: Bundle) -> Speed:
    """Time two bundles in turns, on one thread, one image a run."""
    sessions = [open_session(bundle, threads=1) for bundle in (first, second)]
    images = [np.zeros((1, bundle.card.height, bundle.card.width, 3), np.uint8) for bundle in (first, second)]
    turns = [
        [_milliseconds(session, image) for session, image in zip(sessions, images, strict=True)] for _ in range(_ROUNDS)
    ]
    ratios = [before / after for before, after in turns]
    medians = statistics.median(turn[0] for turn in turns), statistics.median(turn[1] for turn in turns)
    return Speed(medians, statistics.median(ratios), (min(ratios), max(ratios)))


def _milliseconds(session: onnxruntime.InferenceSession, image: Pixels) -> float:
    seconds = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        session.run([PROBABILITIES], {INPUT: image})
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1000
