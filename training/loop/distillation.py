"""Distillation: a network is trained towards the probabilities of a teacher, another bundle (Hinton et al. 2015).

The teacher's probabilities are taken at a temperature of 1, not at the calibrated one, which makes them sharper than
the smoothed targets that the teacher was trained on. See arXiv:1503.02531, and Beyer et al. 2021, arXiv:2106.05237, for
why the teacher is given each image exactly as the student is, augmentation included.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from contract.bundle import INPUT, LOGITS, Bundle
from contract.cpu import cores
from contract.errors import UsageError
from contract.session import open_session
from training.data import sources
from training.data.augment import Batch
from training.data.dataset import Dataset
from training.evaluation.calibrate import softmax

SHARE: Final = 0.9
"""The weight of the teacher's probabilities in the target; the rest is the weight of the true class."""


class Distillation:
    """A teacher, run by onnxruntime beside the training.

    Args:
        teacher: a bundle with the dataset's classes and size.
        dataset: what the student is trained on.

    Raises:
        UsageError: the teacher has other classes, or takes images of another size.
        BundleError: its model does not load.
    """

    def __init__(self, teacher: Bundle, dataset: Dataset) -> None:
        card, (height, width) = teacher.card, dataset.size
        if card.labels != dataset.labels:
            raise UsageError(
                f"{teacher.folder} has the classes {', '.join(card.labels[:5])} ..., the data have "
                f"{', '.join(dataset.labels[:5])} ...: a teacher must have been trained on the same classes"
            )
        if (card.height, card.width) != dataset.size:
            raise UsageError(
                f"{teacher.folder} takes images of {card.height}x{card.width}, the data are {height}x{width}: "
                f"give --size {card.height}x{card.width}"
            )
        # half of the cores: the student's training needs the others
        self._session = open_session(teacher, threads=max(1, cores() // 2), outputs=(LOGITS,))
        self.checksum = sources.sha256(teacher.model)

    def targets(self, images: Batch, one_hot: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return target probabilities.

        Args:
            images: (N, H, W, 3), uint8 or float32, values 0 to 255.
            one_hot: (N, classes), 1 at the true class.

        Returns:
            float32 (N, classes).
        """
        pixels = images if images.dtype == np.uint8 else np.clip(np.rint(images), 0, 255).astype(np.uint8)
        (logits,) = self._session.run([LOGITS], {INPUT: pixels})
        return (SHARE * softmax(logits) + (1 - SHARE) * one_hot).astype(np.float32)
