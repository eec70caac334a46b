"""Whether a bundle gives the answers of the model that it was made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime

from contract.bundle import INPUT, LOGITS, PROBABILITIES, Bundle
from contract.errors import BundleError
from contract.preprocessing import Pixels
from contract.session import first_line, open_session
from training.evaluation.calibrate import softmax
from training.importing.class_output import ClassOutput
from training.importing.errors import CannotImport
from training.importing.original import Array

LARGEST: Final = 1e-5
"""The largest difference in probability that passes."""
LARGEST_IN_HALVES: Final = 2e-3
"""The same where the model computes in float16, whose steps below 1 are of 5e-4."""
_BATCHES: Final = (1, 7)


@dataclass(frozen=True)
class Parity:
    """How a bundle differs from its original.

    Attributes:
        images: how many were compared.
        probability: the largest difference in probability.
        same: how many images have the same most probable class.
    """

    images: int
    probability: float
    same: int


class Disagreement(CannotImport):
    """The bundle's answers are not the original's."""


def measure(draft: Bundle, pixels: Pixels, values: Array, output: ClassOutput, *, largest: float = LARGEST) -> Parity:
    """Compare a bundle whose temperature is 1 with its original, in batches of 1 and 7.

    Args:
        draft: the bundle.
        pixels: uint8 (N, H, W, 3).
        values: what the original's output gives for them, each image run by itself.
        output: what these are.
        largest: the difference in probability that passes.

    Raises:
        Disagreement: the difference is larger, or the bundle does not run.
    """
    expected = output.probabilities(values)
    scale = max(1.0, float(np.abs(values.astype(np.float64)).max()))
    try:
        session = open_session(draft, outputs=(LOGITS, PROBABILITIES))
    except BundleError as error:
        raise Disagreement(str(error)) from None
    quiet = onnxruntime.RunOptions()
    quiet.log_severity_level = 4  # a graph that does not run in batches is tried in another form
    worst, same = 0.0, 0
    for size in _BATCHES:
        batches = []
        for start in range(0, len(pixels), size):
            try:
                batches.append(session.run([PROBABILITIES, LOGITS], {INPUT: pixels[start : start + size]}, quiet))
            except Exception as error:  # onnxruntime's exceptions have no base of their own
                raise Disagreement(f"a batch of {size} images does not run: {first_line(error)}") from None
        probabilities, logits = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        if probabilities.shape != expected.shape:
            raise Disagreement(f"a batch of {size} images gives {len(probabilities)} answers, not {len(expected)}")
        off = float(np.abs(probabilities - expected).max())
        if not off < largest:
            raise Disagreement(f"in batches of {size}, its bundle differs from it by {off:.1e} in probability")
        if output.kind == "logits":  # of a thousand classes, probabilities are too small to tell by themselves
            distance = _distance(logits, values.reshape(len(values), -1)) / scale
            if not distance < 10 * largest:
                raise Disagreement(f"the bundle's logits differ from the original's by {distance:.1e} of the largest")
        worst = max(worst, off, float(np.abs(softmax(logits) - expected).max()))
        same = int((logits.argmax(1) == expected.argmax(1)).sum())
    return Parity(len(pixels), worst, same)


def _distance(logits: npt.NDArray[np.float32], values: Array) -> float:
    return float(np.abs(logits.astype(np.float64) - values.astype(np.float64)).max())
