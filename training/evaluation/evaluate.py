"""What a bundle is worth on labelled images, computed with onnxruntime as in service."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime

from contract import bundle
from contract.card import Accuracy
from contract.errors import BundleError, DataError
from contract.preprocessing import Pixels
from contract.session import open_session
from training.data.split import Split
from training.evaluation.calibrate import Floats, cross_entropy, expected_calibration_error, softmax

_BATCH = 250
_LATENCY_RUNS = 200
_THROUGHPUT_BATCH = 64
_THROUGHPUT_RUNS = 15
_CONFUSION_CLASSES = 100
"""With more classes, a matrix of theirs is no longer a thing for a card."""


@dataclass(frozen=True)
class Evaluation:
    """How a bundle did on a split.

    Attributes:
        split: the split's name.
        images: how many there were.
        accuracy: the share whose best class is the label, in [0, 1].
        balanced_accuracy: the mean of the classes' shares, each counting the same.
        interval: the 95 % Wilson score interval of that share.
        cross_entropy: mean, in nats.
        calibration_error: expected calibration error over 15 bins, in [0, 1].
        uncalibrated_error: the same at temperature 1.
        per_class: recall of each class, by its label.
        confusion: int64 (classes, classes), rows being true classes and columns predictions.
        targets: int64 (N,), the class of each image.
        logits: float32 (N, classes), before the temperature.
        probabilities: (N, classes), after it.
    """

    split: str
    images: int
    accuracy: float
    balanced_accuracy: float
    interval: tuple[float, float]
    cross_entropy: float
    calibration_error: float
    uncalibrated_error: float
    per_class: dict[str, float]
    confusion: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    logits: npt.NDArray[np.float32]
    probabilities: Floats

    @property
    def above_chance(self) -> bool:
        """Whether the balanced accuracy's interval lies above what guessing among the classes would reach."""
        return wilson(round(self.balanced_accuracy * self.images), self.images)[0] > 1 / len(self.confusion)

    def describe(self) -> Accuracy:
        """For a card: fractions rounded to a hundredth of a percent, and no confusion matrix beyond 100 classes."""
        matrix = self.confusion.tolist() if len(self.confusion) <= _CONFUSION_CLASSES else []
        return Accuracy(
            split=self.split,
            images=self.images,
            accuracy=round(self.accuracy, 4),
            balanced_accuracy=round(self.balanced_accuracy, 4),
            interval=(round(self.interval[0], 4), round(self.interval[1], 4)),
            cross_entropy=round(self.cross_entropy, 4),
            calibration_error=round(self.calibration_error, 4),
            uncalibrated_error=round(self.uncalibrated_error, 4),
            per_class={label: round(recall, 4) for label, recall in self.per_class.items()},
            confusion=tuple(tuple(row) for row in matrix),
            above_chance=self.above_chance,
        )


def answers(
    of: bundle.Bundle, images: Pixels, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Logits, before the temperature, and probabilities, each float32 (N, classes).

    Raises:
        BundleError: the model does not load, or answers with what are no numbers.
    """
    session = open_session(of, outputs=(bundle.LOGITS, bundle.PROBABILITIES))
    outputs = []
    for start in range(0, len(images), _BATCH):
        some = images[start : start + _BATCH]
        outputs.append(session.run([bundle.LOGITS, bundle.PROBABILITIES], {bundle.INPUT: some}))
        progress(start + len(some), len(images))
    raw, probabilities = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
    if not np.isfinite(raw).all():
        raise BundleError(f"{of.model} answers with what are no numbers: its weights are damaged")
    return raw, probabilities


def logits(of: bundle.Bundle, images: Pixels) -> npt.NDArray[np.float32]:
    """Logits alone; see `answers`."""
    return answers(of, images)[0]


def evaluate(
    of: bundle.Bundle,
    split: Split,
    name: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Score a bundle.

    Args:
        of: the bundle.
        split: images of the size that the bundle takes, targets in the order of its labels.
        name: what to call the split.
        progress: called with images done and in all.

    Raises:
        DataError: no images, or of another size.
        BundleError: the model does not load, answers with what are no numbers, or divides by another temperature than
            its card says.
    """
    size = (of.card.height, of.card.width)
    if not len(split):
        raise DataError(f"the {name} split has no images")
    if split.images.shape[1:3] != size:
        raise DataError(f"the images are {split.images.shape[1:3]}, the model takes {size}")
    raw, served = answers(of, split.images, progress)
    probabilities = softmax(raw, of.card.temperature)
    if not np.allclose(served, probabilities, atol=1e-3):
        raise BundleError(f"{of.model} does not divide by the temperature of {of.card.temperature} that its card says")
    classes = raw.argmax(1)
    count = len(of.card.labels)
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (split.targets, classes), 1)
    of_class = confusion.sum(1)
    recalls = {label: float(confusion[i, i] / of_class[i]) for i, label in enumerate(of.card.labels) if of_class[i]}
    return Evaluation(
        split=name,
        images=len(split),
        accuracy=float(np.trace(confusion)) / len(split),
        balanced_accuracy=statistics.mean(recalls.values()),
        interval=wilson(int(np.trace(confusion)), len(split)),
        cross_entropy=cross_entropy(raw, split.targets, of.card.temperature),
        calibration_error=expected_calibration_error(probabilities, split.targets),
        uncalibrated_error=expected_calibration_error(softmax(raw), split.targets),
        per_class=recalls,
        confusion=confusion,
        targets=split.targets,
        logits=raw,
        probabilities=probabilities,
    )


def wilson(right: int, of: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927)."""
    z = 1.959964
    share = right / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return middle - half, middle + half


def latency(of: bundle.Bundle) -> float:
    """The median time of one image on one thread, in milliseconds."""
    return _median_seconds(open_session(of, threads=1), of.card, 1, _LATENCY_RUNS) * 1000


def throughput(of: bundle.Bundle) -> float:
    """Images a second in batches of 64 on all cores, by the median run."""
    return _THROUGHPUT_BATCH / _median_seconds(open_session(of), of.card, _THROUGHPUT_BATCH, _THROUGHPUT_RUNS)


def _median_seconds(run: onnxruntime.InferenceSession, card: bundle.Card, images: int, times: int) -> float:
    feed = {bundle.INPUT: np.zeros((images, card.height, card.width, 3), np.uint8)}
    took = []
    for _ in range(times):
        start = time.perf_counter()
        run.run([bundle.PROBABILITIES], feed)
        took.append(time.perf_counter() - start)
    return statistics.median(took)
