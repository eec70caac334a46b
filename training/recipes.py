"""A recipe: network, augmentation, optimiser and schedule under one name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from contract.errors import UsageError
from training import augment, networks, optimisers


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        name: what `--recipe` takes.
        summary: one line for a person.
        network: what is trained.
        augmentation: transforms applied to each training batch, in order.
        optimiser: with its peak rate.
        schedule: the rate's course over the run.
        epochs: passes over the training pictures.
        batch_size: pictures a step.
        label_smoothing: the share of the target that is spread over all classes (arXiv:1512.00567).
        lookahead: whether slow weights follow the fast ones and stay at the end.
    """

    name: str
    summary: str
    network: networks.Network
    augmentation: tuple[augment.Transform, ...]
    optimiser: optimisers.Optimiser
    schedule: optimisers.Schedule
    epochs: int
    batch_size: int
    label_smoothing: float = 0.0
    lookahead: bool = False


SEED: Final = Recipe(
    name="seed",
    summary="the article's network: pairs of 32, 64 and 128 kernels, rotation, shifts, flips, Adam",
    network=networks.Pairs(),
    augmentation=(augment.Affine(degrees=45, shift=0.1), augment.Flip()),
    # the article leaves the rate and the batch open; these are Adam's default and a common size. A constant 3e-4 from
    # the start ended no better (80.6 % of the test pictures)
    optimiser=optimisers.Adam(1e-3),
    schedule=optimisers.Constant(),
    epochs=64,
    batch_size=128,
)

FAST: Final = Recipe(
    name="fast",
    summary="a whitened network of 64, 256 and 256 kernels in 25 epochs; the default",
    network=networks.Whitened(),
    augmentation=(augment.Flip(alternate=True), augment.Translate(2)),
    optimiser=optimisers.Nesterov(),
    schedule=optimisers.Triangle(),
    epochs=25,
    batch_size=1024,
    label_smoothing=0.2,
    lookahead=True,
)

SMALL: Final = replace(
    FAST,
    name="small",
    summary="the same with 64, 192 and 224 kernels in twenty epochs; in int8 as fast as the seed's network in float32",
    network=networks.Whitened(widths=(64, 192, 224)),
    epochs=20,
)

RECIPES: Final = {recipe.name: recipe for recipe in (FAST, SMALL, SEED)}


def find(name: str) -> Recipe:
    """The recipe of that name. Raises `UsageError`, which lists the names there are."""
    if name not in RECIPES:
        raise UsageError(f"there is no recipe {name!r}: choose {', '.join(RECIPES)}")
    return RECIPES[name]
