"""Two bundles side by side, on the same images: who is right more often, who is faster, who is smaller."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnxruntime

from contract import bundle
from contract.errors import UsageError
from contract.preprocessing import Pixels
from contract.session import open_session
from training.data import dataset
from training.evaluation import evaluate
from training.evaluation.evaluate import Evaluation

_ROUNDS: Final = 15
_RUNS: Final = 20


@dataclass(frozen=True)
class Speed:
    """Milliseconds an image on one thread, of two bundles that took turns, and how many times as fast the second is.

    The ratio is the median over the turns, with the lowest and the highest.
    """

    milliseconds: tuple[float, float]
    ratio: float
    spread: tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """Two bundles on the same images.

    Attributes:
        scores: how each did.
        only: how many images the first alone answers right, and the second alone.
        difference: the second's accuracy less the first's, and the 95 % interval of that, for paired images.
        p_value: how likely at least such a difference were if both were equally good: McNemar's exact test (1947).
        speed: one beside the other.
        size: bytes of each model.
    """

    scores: tuple[Evaluation, Evaluation]
    only: tuple[int, int]
    difference: tuple[float, float, float]
    p_value: float
    speed: Speed
    size: tuple[int, int]

    def describe(self) -> dict[str, Any]:
        """As JSON can hold it."""
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


def compare(
    first: bundle.Bundle,
    second: bundle.Bundle,
    source: str,
    split: str | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Score and time two bundles.

    Args:
        first, second: of the same classes; their sizes may differ.
        source: labelled images; see `data.load`.
        split: which of them; see `data.choose`.
        progress: called while images are decoded.

    Raises:
        UsageError: they know different classes, or both were trained on these data and held out different parts.
    """
    if set(first.card.labels) != set(second.card.labels):
        strange = sorted(set(first.card.labels) ^ set(second.card.labels))
        raise UsageError(
            f"{first.folder} and {second.folder} know different classes ({', '.join(strange[:5])}): "
            "only bundles of the same ones can be compared"
        )
    cards = first.card, second.card
    loaded = [dataset.load_for(card, source, progress) for card in cards]
    owners = [card for card, its in zip(cards, loaded, strict=True) if dataset.trained_on(card, its)]
    judge = owners[0] if owners else first.card  # what it was not trained on decides
    shares = [one.held_out for one in loaded]
    if shares[0] != shares[1] and len(owners) < 2:  # who was not trained on them can take them as the other has split
        loaded = [dataset.load_for(card, source, progress, split_as=judge) for card in cards]
        shares = [one.held_out for one in loaded]
    name = dataset.choose(loaded[0], split, judge)[0]
    if shares[0] != shares[1] and (name != "test" or shares[0][1] or shares[1][1]):
        raise UsageError(
            f"{first.folder} and {second.folder} held out other images of {source}: compare them on data that have a "
            "test split, or on other data"
        )
    splits = [dataset.choose(its, name, judge)[1] for its in loaded]
    scores = [evaluate.evaluate(of, part, name) for of, part in zip((first, second), splits, strict=True)]
    right = [score.probabilities.argmax(1) == score.targets for score in scores]
    only = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    return Comparison(
        scores=(scores[0], scores[1]),
        only=only,
        difference=difference(only, scores[0].images),
        p_value=mcnemar(*only),
        speed=speed(first, second),
        size=(first.model.stat().st_size, second.model.stat().st_size),
    )


def difference(only: tuple[int, int], images: int) -> tuple[float, float, float]:
    """The second's accuracy less the first's, with its 95 % interval (Wald's, for paired shares)."""
    first, second = only
    middle = (second - first) / images
    half = 1.959964 * math.sqrt(first + second - (second - first) ** 2 / images) / images
    return middle, middle - half, middle + half


def mcnemar(first: int, second: int) -> float:
    """The two-sided exact test of images that the first alone, or the second alone, answers right."""
    of = first + second
    tail = sum(math.comb(of, k) for k in range(min(first, second) + 1))
    return min(1.0, float(2 * tail / 2**of))


def speed(first: bundle.Bundle, second: bundle.Bundle) -> Speed:
    """Time two bundles in turns, one thread, one image a run."""
    sessions = [open_session(of, threads=1) for of in (first, second)]
    feeds = [np.zeros((1, of.card.height, of.card.width, 3), np.uint8) for of in (first, second)]
    turns = [
        [_milliseconds(session, feed) for session, feed in zip(sessions, feeds, strict=True)] for _ in range(_ROUNDS)
    ]
    ratios = [one / other for one, other in turns]
    middle = (statistics.median(turn[0] for turn in turns), statistics.median(turn[1] for turn in turns))
    return Speed(middle, statistics.median(ratios), (min(ratios), max(ratios)))


def _milliseconds(session: onnxruntime.InferenceSession, image: Pixels) -> float:
    times = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        session.run([bundle.PROBABILITIES], {bundle.INPUT: image})
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000
