"""A pre-trained backbone with a linear head: first the head is fitted to frozen features, then both can be tuned.

In this order, because a head that starts at random would spoil the features that it is tuned with (Kumar et al. 2022,
arXiv:2202.10054).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import keras
import numpy as np
import numpy.typing as npt

from training import backbones
from training.backbones.backbone import freeze
from training.data.dataset import Dataset
from training.networks import linear_head
from training.networks.architectures import Start
from training.networks.features import features

HEAD: Final = "logits"


@dataclass(frozen=True)
class Pretrained:
    """See `training.networks.architectures.Network`.

    Attributes:
        backbone: its name; see `training.backbones`.
    """

    backbone: str = "efficientnet-lite0"

    def build(self, size: tuple[int, int], classes: int, *, for_export: bool = False) -> keras.Model:
        """Make a model of (N, height, width, 3) -> logits (N, classes)."""
        backbone = backbones.find(self.backbone)
        base = backbone.build(size)
        freeze(base, backbone.tuned_from)
        head = keras.layers.Dense(classes, dtype="float32", name=HEAD)
        return keras.Model(base.input, head(base.output), name=backbone.name)

    def start(
        self,
        model: keras.Model,
        dataset: Dataset,
        by_class: npt.NDArray[np.float32] | None,
        seed: int,
        progress: Callable[[int, int], None],
    ) -> Start | None:
        """Give a model the pre-trained weights and a fitted head.

        The head is fitted to the training images, its penalty chosen by cross-validation over these and the
        validation images.
        """
        backbone = backbones.find(self.backbone)
        backbone.load(model)
        head = model.get_layer(HEAD)
        base = keras.Model(model.input, head.input)
        both, classes = dataset.train.joined(dataset.validation), len(dataset.labels)
        found, targets = features(base, both.images, backbone.origin.sha256, progress), both.targets
        counts = None if by_class is None else by_class[targets]
        chosen = linear_head.cross_validate(found, targets, classes, counts, seed=seed)
        train = slice(len(dataset.train))
        fitted = linear_head.fit(
            found[train], targets[train], classes, chosen.strength, None if counts is None else counts[train]
        )
        head.set_weights([fitted.weights, fitted.bias])
        return Start(chosen.logits, chosen.targets)
