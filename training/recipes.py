"""A recipe: network, augmentation, optimiser and schedule under one name."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Final

from contract.errors import UsageError
from training import backbones, optimisers
from training.data import augment
from training.networks import architectures
from training.networks.pretrained import Pretrained


@dataclass(frozen=True)
class Scaling:
    """How epochs and batch size follow the number of training images.

    Attributes:
        images: training images that a recipe's epochs and batch size are meant for.
        fewest_steps: steps that a run on a smaller dataset aims at, unless the recipe has fewer.
        most_steps: a run on a larger dataset has fewer epochs, one at least, so that it has no more steps; None: any.
        steps_an_epoch: the batch size is halved until an epoch has so many steps.
        smallest_batch: the batch size is not made smaller than this.
        most_epochs: a small dataset gets at most this many times the recipe's epochs.
    """

    images: int = 45_000  # those of CIFAR-10
    fewest_steps: int = 1000
    most_steps: int | None = None
    steps_an_epoch: int = 32
    smallest_batch: int = 64
    most_epochs: int = 7


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        name: what `--recipe` takes.
        summary: one line for a person.
        network: what is trained.
        augmentation: transforms applied to each training batch, in order.
        optimiser: with its peak learning rate.
        schedule: the learning rate over the run, as a factor on the peak.
        epochs: passes over the training images, for a dataset as large as CIFAR-10.
        batch_size: images a step, for such a dataset.
        label_smoothing: fraction of the target that is spread over all classes (arXiv:1512.00567).
        averaging: slow weights that follow the fast ones and are kept at the end; None for none.
        scaling: how epochs and batch size follow the number of training images.
        precision: what layers compute in on a CPU; None: what is fastest on the machine.
        makes_int8: whether a training also publishes the int8 form, if it is worth it.
        validation_quality: JPEG quality at which validation images are evaluated once more; the best epoch is then
            chosen by the mean of both accuracies, and the temperature fitted to both. 0: as they are only.
    """

    name: str
    summary: str
    network: architectures.Network
    augmentation: tuple[augment.Transform, ...]
    optimiser: optimisers.Optimiser
    schedule: optimisers.Schedule
    epochs: int
    batch_size: int
    label_smoothing: float = 0.0
    averaging: type[optimisers.Averaging] | None = None
    scaling: Scaling = Scaling()
    precision: architectures.Precision | None = None
    makes_int8: bool = False
    validation_quality: int = 0

    def form(self) -> str:
        """Return a hash of all that defines a step: two recipes of the same form train alike.

        The number of epochs is left out: a run may be continued for more epochs.
        """
        return hashlib.sha256(repr(replace(self, summary="", epochs=0)).encode()).hexdigest()[:12]

    def unmirrored(self) -> Recipe:
        """Return this recipe without flips, for classes that mirroring changes."""
        transforms = tuple(transform for transform in self.augmentation if not isinstance(transform, augment.Flip))
        return replace(self, augmentation=transforms)

    def on(self, backbone: str) -> Recipe:
        """Return this recipe with another backbone. Raises `UsageError` if it has none, or there is no such one."""
        if not isinstance(self.network, Pretrained):
            raise UsageError(f"the recipe {self.name} has no backbone: leave --backbone out, or give --recipe transfer")
        return replace(self, network=Pretrained(backbones.find(backbone).name))

    def suited(self, images: int, epochs: int | None = None, batch_size: int | None = None) -> Recipe:
        """Return this recipe adapted to a dataset: smaller batches and more epochs for a small one.

        Args:
            images: training images.
            epochs, batch_size: used as they are; chosen where None. The optimiser scales its learning rate with the
                batch size.
        """
        rule = self.scaling
        size = batch_size or self.batch_size
        while not batch_size and size > rule.smallest_batch and images // size < rule.steps_an_epoch:
            size //= 2
        size = min(size, images)
        steps_an_epoch = images // size
        steps = min(rule.fewest_steps, self.epochs * (rule.images // self.batch_size))
        wanted = math.ceil(steps / steps_an_epoch) if images < rule.images else 0
        wanted = max(self.epochs, min(wanted, rule.most_epochs * self.epochs))
        if rule.most_steps:
            wanted = min(wanted, max(1, rule.most_steps // steps_an_epoch))
        return replace(
            self,
            batch_size=size,
            epochs=epochs or wanted,
            optimiser=self.optimiser.at_batch(size / self.batch_size),
        )


SEED: Final = Recipe(
    name="seed",
    summary="the article's network: pairs of 32, 64 and 128 kernels, rotation, shifts, flips, Adam",
    network=architectures.Pairs(),
    augmentation=(augment.Affine(degrees=45, shift=0.1), augment.Flip()),
    # the article leaves learning rate and batch size open; these are Adam's default and a common size. At this constant
    # learning rate the weights end at 81.7 % validation accuracy, their moving average at 87.9 %
    optimiser=optimisers.Adam(1e-3),
    schedule=optimisers.Constant(),
    epochs=64,
    batch_size=128,
    averaging=optimisers.MovingAverage,
)

SEED_PLUS: Final = replace(
    SEED,
    name="seed-plus",
    summary="the same network with dropout, a falling learning rate, and rotation by at most 15 degrees",
    # so small a network overfits little in 64 epochs: with twice the dropout, 45 degrees, a third of the learning rate
    # and no moving average it ended below the seed, at 86.1 % validation accuracy
    network=architectures.Pairs(dropout=(0.05, 0.1, 0.15)),
    augmentation=(augment.Affine(degrees=15, shift=0.1), augment.Flip()),
    optimiser=optimisers.Adam(3e-3),
    schedule=optimisers.Cosine(),
)

FAST: Final = Recipe(
    name="fast",
    summary="a whitened network of 64, 256 and 256 kernels with GELU in 15 epochs; default below 64 pixels",
    network=architectures.Whitened(activation="gelu", momentum=0.8),
    augmentation=(augment.Flip(alternate=True), augment.Translate(2)),
    optimiser=optimisers.Nesterov(learning_rate=0.75),
    schedule=optimisers.Triangle(),
    epochs=15,
    batch_size=512,
    label_smoothing=0.2,
    averaging=optimisers.Lookahead,
)

SMALL: Final = replace(
    FAST,
    name="small",
    summary="64, 192 and 224 kernels with ReLU, 20 epochs; as int8 as fast as the seed's network in float32",
    network=architectures.Whitened(widths=(64, 192, 224)),
    optimiser=optimisers.Nesterov(),
    epochs=20,
    batch_size=1024,
)

BEST: Final = replace(
    SMALL,
    name="best",
    summary="128, 384 and 256 kernels, ten convolutions, cutout, 32 epochs: the most accurate, and the slowest",
    network=architectures.Whitened(widths=(128, 384, 256), depth=3),
    augmentation=(augment.Flip(alternate=True), augment.Translate(4), augment.Cutout(8)),
    optimiser=optimisers.Nesterov(learning_rate=1.2),
    epochs=32,
)

ROBUST: Final = replace(
    SMALL,
    name="robust",
    summary="64, 128 and 160 kernels, nine convolutions, cutout, a third of the images as JPEG, 80 epochs",
    network=architectures.Whitened(
        widths=(64, 128, 160), depth=3, momentum=0.8, pool_padding="same", train_whitening_bias=False
    ),
    augmentation=(augment.Flip(alternate=True), augment.Translate(4), augment.Cutout(8), augment.Jpeg(0.35)),
    optimiser=optimisers.Nesterov(learning_rate=0.6),
    epochs=80,
    batch_size=512,
    validation_quality=75,
)

SMALL_JPEG: Final = replace(
    SMALL,
    name="small-jpeg",
    summary="a trained small (--from) on images of which half are JPEG, with cutout, 12 epochs",
    augmentation=(augment.Flip(alternate=True), augment.Translate(2), augment.Cutout(8), augment.Jpeg(0.5)),
    optimiser=optimisers.Nesterov(learning_rate=0.3),
    schedule=optimisers.Triangle(start=0.4, peak=0.05, end=0.05),
    epochs=12,
    batch_size=512,
    validation_quality=75,
)

TRANSFER: Final = Recipe(
    name="transfer",
    summary="a network pre-trained on ImageNet: a linear head on its features, then fine-tuning; the better is kept",
    network=Pretrained(),
    augmentation=(augment.ResizedCrop(), augment.Flip(), augment.ColourJitter(), augment.Jpeg(lowest=40)),
    optimiser=optimisers.Adam(2e-4),
    schedule=optimisers.Cosine(),
    epochs=5,
    batch_size=32,
    scaling=Scaling(images=2000, fewest_steps=60, most_steps=1000, steps_an_epoch=8, smallest_batch=16, most_epochs=3),
    precision="float32",  # depthwise convolutions take twice as long in bfloat16 on a CPU with AMX
    makes_int8=True,
)

AUTO: Final = "auto"
"""What `--recipe` takes for `TRANSFER` or `FAST`, whichever suits the size of the images."""
PHOTOGRAPH_SIDE: Final = 64
"""Pixels: images with a shorter side are too coarse for a network that was trained on photographs."""
_SIDES: Final = ((0, 160), (96, 192), (192, 224))
"""The input side of `TRANSFER`, in pixels, for images whose shorter side has at least so many.

A network that was trained at 224 pixels gains if small images are enlarged. Cross-validated accuracy of a linear head
on frozen features, images of 100 pixels in six classes: 88.8 % at 128, 89.7 % at 160, 90.3 % at 192, 90.1 % at 224.
"""

RECIPES: Final = {recipe.name: recipe for recipe in (TRANSFER, FAST, SMALL, SMALL_JPEG, ROBUST, BEST, SEED, SEED_PLUS)}


def find(name: str) -> Recipe:
    """Return the recipe of that name. Raises `UsageError`, which lists the names."""
    if name not in RECIPES:
        raise UsageError(f"there is no recipe {name!r}: choose {', '.join((AUTO, *RECIPES))}")
    return RECIPES[name]


def choose(size: tuple[int, int]) -> tuple[Recipe, str]:
    """Return the recipe for images of that height and width, and the reason, for a person."""
    side = min(size)
    if side >= PHOTOGRAPH_SIDE:
        least = f"images of {PHOTOGRAPH_SIDE} pixels or larger"
        return TRANSFER, f"{least} are taken for photographs (--recipe fast trains from scratch)"
    return FAST, f"images of {side} pixels are too small for a network that was trained on photographs"


def input_size(name: str, own: tuple[int, int]) -> tuple[int, int]:
    """Return the height and width to bring images to.

    Args:
        name: of a recipe, or `AUTO`.
        own: the images' own size, as `training.data.dataset.load` has it.
    """
    if name != TRANSFER.name and (name != AUTO or min(own) < PHOTOGRAPH_SIDE):
        return own
    side = max(side for least, side in _SIDES if min(own) >= least)
    return side, side
