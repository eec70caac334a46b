"""A bundle that teaches: its answers are what another network is trained towards (Hinton et al. 2015).

Its probabilities at a temperature of one, that is, not the calibrated ones: those are sharper than the smoothed labels
that it was trained on itself. See arXiv:1503.02531, and Beyer et al. 2021, arXiv:2106.05237, for why the teacher sees
each image just as the pupil does, augmentation included.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from contract import bundle
from contract.cpu import cores
from contract.errors import UsageError
from contract.session import open_session
from training.data import sources
from training.data.augment import Batch
from training.data.dataset import Dataset
from training.evaluation.calibrate import softmax

SHARE: Final = 0.9
"""How much of the target is the teacher's; the rest is the label's."""


class Teacher:
    """A bundle, run by onnxruntime beside the training.

    Args:
        of: a bundle with the data's classes and size.
        data: what the pupil is trained on.

    Raises:
        UsageError: it has other classes, or takes images of another size.
        BundleError: the model does not load.
    """

    def __init__(self, of: bundle.Bundle, data: Dataset) -> None:
        if of.card.labels != data.labels:
            raise UsageError(
                f"{of.folder} knows the classes {', '.join(of.card.labels[:5])} ..., the data have "
                f"{', '.join(data.labels[:5])} ...: a teacher must have been trained on the same classes"
            )
        if (of.card.height, of.card.width) != data.size:
            raise UsageError(
                f"{of.folder} takes images of {of.card.height}x{of.card.width}, the data are "
                f"{data.size[0]}x{data.size[1]}: give --size {of.card.height}x{of.card.width}"
            )
        # half of the cores: the network that learns needs the others
        self._session = open_session(of, threads=max(1, cores() // 2), outputs=(bundle.LOGITS,))
        self.checksum = sources.sha256(of.model)

    def targets(self, images: Batch, one_hot: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What to train towards, (N, classes), for images (N, H, W, 3) of values 0 to 255 and their labels."""
        pixels = images if images.dtype == np.uint8 else np.clip(np.rint(images), 0, 255).astype(np.uint8)
        (logits,) = self._session.run([bundle.LOGITS], {bundle.INPUT: pixels})
        return (SHARE * softmax(logits) + (1 - SHARE) * one_hot).astype(np.float32)
