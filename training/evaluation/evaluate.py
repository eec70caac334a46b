"""Score a bundle on labelled images, with onnxruntime as in service, and time it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime

from contract.bundle import INPUT, LOGITS, PROBABILITIES, Bundle
from contract.card import Accuracy, Card
from contract.errors import BundleError, DataError
from contract.preprocessing import Pixels
from contract.session import open_session
from training.data.split import Split
from training.evaluation.calibrate import Floats, cross_entropy, expected_calibration_error, softmax, unsmoothed

_BATCH = 250
_BATCH_PIXELS = 2**20
"""Pixels in a batch at most: onnxruntime keeps up to some kilobytes for each, in the first planes of a network."""
_LATENCY_RUNS = 200
_THROUGHPUT_BATCH = 64
_THROUGHPUT_RUNS = 15
_LEAST_RUNS = 5
_MOST_SECONDS = 10.0
"""After which a slow model is not run again to be timed."""
_CONFUSION_CLASSES = 100
"""With more classes, the confusion matrix is too large for a card."""


@dataclass(frozen=True)
class Evaluation:
    """How well a bundle does on a split.

    Attributes:
        split: the split's name.
        images: how many there were.
        accuracy: fraction of images whose most probable class is the true one, in [0, 1].
        balanced_accuracy: mean recall over the classes.
        macro_f1: mean over the classes of the F1 score, the harmonic mean of precision and recall.
        interval: 95 % Wilson score interval of the accuracy.
        cross_entropy: mean, in nats.
        calibration_error: expected calibration error over 15 bins, in [0, 1].
        uncalibrated_error: the same of the softmax of the logits as they are.
        per_class: recall of each class, by its label.
        confusion: int64 (classes, classes), rows being true classes and columns predictions.
        targets: int64 (N,), the class of each image.
        logits: float32 (N, classes), before the temperature.
        probabilities: (N, classes), after the temperature.
    """

    split: str
    images: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
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
            macro_f1=round(self.macro_f1, 4),
            interval=(round(self.interval[0], 4), round(self.interval[1], 4)),
            cross_entropy=round(self.cross_entropy, 4),
            calibration_error=round(self.calibration_error, 4),
            uncalibrated_error=round(self.uncalibrated_error, 4),
            per_class={label: round(recall, 4) for label, recall in self.per_class.items()},
            confusion=tuple(tuple(row) for row in matrix),
            above_chance=self.above_chance,
        )


def predict(
    bundle: Bundle, images: Pixels, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Run a bundle's model on images.

    Args:
        bundle: the bundle.
        images: uint8 (N, H, W, 3) of the size that the bundle takes.
        progress: called with images done and in all.

    Returns:
        Logits, before the temperature, and probabilities, each float32 (N, classes).

    Raises:
        BundleError: the model does not load, or its logits are not finite.
    """
    session = open_session(bundle, outputs=(LOGITS, PROBABILITIES))
    outputs = []
    size = max(1, min(_BATCH, _BATCH_PIXELS // (images.shape[1] * images.shape[2])))
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        outputs.append(session.run([LOGITS, PROBABILITIES], {INPUT: batch}))
        progress(start + len(batch), len(images))
    logits, probabilities = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
    if not np.isfinite(logits).all():
        raise BundleError(f"{bundle.model} returns values that are not finite: its weights are damaged")
    return logits, probabilities


def predict_logits(bundle: Bundle, images: Pixels) -> npt.NDArray[np.float32]:
    """Return the logits alone; see `predict`."""
    return predict(bundle, images)[0]


def unsmoothed_logits(bundle: Bundle, images: Pixels) -> Floats:
    """Return what the temperature divides: the logits without the label smoothing of the training; see `predict`."""
    return unsmoothed(predict_logits(bundle, images), bundle.card.label_smoothing)


def evaluate(
    bundle: Bundle,
    split: Split,
    name: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Score a bundle on a split.

    Args:
        bundle: the bundle.
        split: images of the size that the bundle takes, with targets in the order of its card's labels.
        name: the split's name, for the card.
        progress: called with images done and in all.

    Raises:
        DataError: there are no images, or they have another size.
        BundleError: the model does not load, its logits are not finite, or its probabilities are not those of the
            temperature and label smoothing that its card says.
    """
    card = bundle.card
    if not len(split):
        raise DataError(f"the {name} split has no images")
    if split.images.shape[1:3] != (card.height, card.width):
        raise DataError(f"the images are {split.images.shape[1:3]}, the model takes {(card.height, card.width)}")
    logits, served = predict(bundle, split.images, progress)
    scores = unsmoothed(logits, card.label_smoothing)
    probabilities = softmax(scores, card.temperature)
    if not np.allclose(served, probabilities, atol=1e-3):
        smoothing = f" and the label smoothing {card.label_smoothing}" if card.label_smoothing else ""
        raise BundleError(
            f"{bundle.model} does not divide by the temperature {card.temperature}{smoothing} that its card says"
        )
    confusion = np.zeros((len(card.labels),) * 2, np.int64)
    np.add.at(confusion, (split.targets, logits.argmax(1)), 1)
    correct, of_class = int(np.trace(confusion)), confusion.sum(1)
    recalls = {label: float(confusion[i, i] / of_class[i]) for i, label in enumerate(card.labels) if of_class[i]}
    return Evaluation(
        split=name,
        images=len(split),
        accuracy=correct / len(split),
        balanced_accuracy=statistics.mean(recalls.values()),
        macro_f1=macro_f1(confusion),
        interval=wilson(correct, len(split)),
        cross_entropy=cross_entropy(scores, split.targets, card.temperature),
        calibration_error=expected_calibration_error(probabilities, split.targets),
        uncalibrated_error=expected_calibration_error(softmax(logits), split.targets),
        per_class=recalls,
        confusion=confusion,
        targets=split.targets,
        logits=logits,
        probabilities=probabilities,
    )


def macro_f1(confusion: npt.NDArray[np.int64]) -> float:
    """Return the mean of the classes' F1 scores; classes without images are left out.

    Args:
        confusion: (classes, classes), rows being targets and columns predictions.
    """
    images, predicted, right = confusion.sum(1), confusion.sum(0), np.diag(confusion)
    return float(np.mean((2 * right / np.maximum(images + predicted, 1))[images > 0]))


def wilson(correct: int, images: int) -> tuple[float, float]:
    """Return the 95 % score interval of a fraction (Wilson 1927)."""
    z = 1.959964
    fraction = correct / images
    middle = (fraction + z * z / (2 * images)) / (1 + z * z / images)
    half = z / (1 + z * z / images) * math.sqrt(fraction * (1 - fraction) / images + z * z / (4 * images * images))
    return middle - half, middle + half


def latency(bundle: Bundle) -> float:
    """Return the median time of one image on one thread, in milliseconds."""
    return _median_seconds(open_session(bundle, threads=1), bundle.card, 1, _LATENCY_RUNS) * 1000


def throughput(bundle: Bundle) -> float:
    """Return images a second in batches of 64 on all cores, by the median run."""
    return _THROUGHPUT_BATCH / _median_seconds(open_session(bundle), bundle.card, _THROUGHPUT_BATCH, _THROUGHPUT_RUNS)


def _median_seconds(session: onnxruntime.InferenceSession, card: Card, images: int, runs: int) -> float:
    feed = {INPUT: np.zeros((images, card.height, card.width, 3), np.uint8)}
    seconds: list[float] = []
    while len(seconds) < runs and (len(seconds) < _LEAST_RUNS or sum(seconds) < _MOST_SECONDS):
        start = time.perf_counter()
        session.run([PROBABILITIES], feed)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
