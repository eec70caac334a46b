from __future__ import annotations

import pytest

from contract.errors import UsageError
from training import recipes
from training.networks.pretrained import Pretrained


@pytest.mark.parametrize(
    ("own", "size", "name"),
    [
        ((32, 32), (32, 32), "fast"),
        ((63, 200), (63, 200), "fast"),
        ((64, 64), (160, 160), "transfer"),
        ((95, 150), (160, 160), "transfer"),
        ((100, 150), (192, 192), "transfer"),
        ((128, 128), (192, 192), "transfer"),
        ((224, 224), (224, 224), "transfer"),
    ],
)
def test_photographs_are_transferred_and_small_images_trained_from_scratch(
    own: tuple[int, int], size: tuple[int, int], name: str
) -> None:
    assert recipes.input_size("auto", own) == size
    recipe, reason = recipes.choose(size)
    assert recipe.name == name
    assert ("too small" if name == "fast" else "taken for photographs") in reason


def test_a_recipe_that_is_named_decides_on_the_size() -> None:
    assert recipes.input_size("transfer", (32, 32)) == (160, 160)
    assert recipes.input_size("fast", (224, 224)) == (224, 224)


def test_the_backbone_is_chosen_for_transfer_alone() -> None:
    assert recipes.TRANSFER.on("efficientnet-lite2").network == Pretrained("efficientnet-lite2")
    with pytest.raises(UsageError, match="there is no backbone 'vgg'"):
        recipes.TRANSFER.on("vgg")
    with pytest.raises(UsageError, match="the recipe fast has no backbone"):
        recipes.FAST.on("efficientnet-lite0")


@pytest.mark.parametrize(
    ("images", "batch", "epochs"), [(90, 16, 12), (1440, 32, 5), (2000, 32, 5), (10_000, 32, 3), (10**6, 32, 1)]
)
def test_transfer_takes_more_epochs_of_few_images_and_fewer_of_many(images: int, batch: int, epochs: int) -> None:
    suited = recipes.TRANSFER.suited(images)
    assert (suited.batch_size, suited.epochs) == (batch, epochs)
    asked = recipes.TRANSFER.suited(images, epochs=7, batch_size=8)
    assert (asked.batch_size, asked.epochs) == (8, 7)
