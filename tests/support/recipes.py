"""A recipe that trains in a moment."""

from __future__ import annotations

from training import optimisers
from training.data import augment
from training.networks import architectures
from training.recipes import Recipe

TINY = Recipe(
    name="tiny",
    summary="for tests",
    network=architectures.Whitened((8,)),
    augmentation=(augment.Flip(alternate=True), augment.Translate(1)),
    optimiser=optimisers.Nesterov(learning_rate=0.5),
    schedule=optimisers.Triangle(),
    epochs=6,
    batch_size=8,
    label_smoothing=0.1,
    averaging=optimisers.Lookahead,
)
