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
from training.data.augment import Batch, Draw, Transform
from training.data.dataset import Dataset
from training.networks import linear_head
from training.networks.architectures import Start
from training.networks.features import features

HEAD: Final = "logits"
_MOST_VIEWS: Final = 5
_FEW_IMAGES: Final = 1500
"""Up to so many images, a linear head is also fitted to augmented views, together no more than this.

With 20 images a class of flowers, five views raised the accuracy on 1,500 other training images by 2 points.
"""


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
        transforms: tuple[Transform, ...],
        by_class: npt.NDArray[np.float32] | None,
        seed: int,
        progress: Callable[[int, int], None],
    ) -> Start | None:
        """Give a model the pre-trained weights and a fitted head.

        The head is fitted to the training images, its penalty chosen by cross-validation over these and the
        validation images. Where they are few, augmented views of them are fitted to as well.
        """
        backbone = backbones.find(self.backbone)
        backbone.load(model)
        head = model.get_layer(HEAD)
        base, weights = keras.Model(model.input, head.input), backbone.origin.sha256
        both, classes = dataset.train.joined(dataset.validation), len(dataset.labels)
        values, targets = features(base, both.images, weights, progress), both.targets
        views = np.zeros((0, *values.shape), np.float32)
        if len(both) <= _FEW_IMAGES:
            count = min(_MOST_VIEWS, _FEW_IMAGES // len(both))
            images = np.concatenate([_view(both.images[:], transforms, [seed, view]) for view in range(count)])
            views = features(base, images, weights, progress).reshape(count, *values.shape)
        counts = None if by_class is None else by_class[targets]
        chosen = linear_head.cross_validate(values, targets, classes, counts, views, seed=seed)
        n = len(dataset.train)
        fitted = linear_head.fit(
            values[:n], targets[:n], classes, chosen.strength, None if counts is None else counts[:n], views[:, :n]
        )
        head.set_weights([fitted.weights, fitted.bias])
        return Start(chosen.logits, chosen.targets)


def _view(images: Batch, transforms: tuple[Transform, ...], seed: list[int]) -> Batch:
    """Augmented images, uint8 (N, H, W, 3)."""
    draw = Draw(0, np.random.default_rng([3, *seed]), np.zeros(len(images), bool))
    for transform in transforms:
        images = transform(images, draw)
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)
