"""The images that two bundles are compared on: the same for both, and none that either was trained on."""

from __future__ import annotations

from collections.abc import Callable

from contract.bundle import Bundle
from contract.errors import UsageError
from training.data import dataset as datasets
from training.data.split import Split


def shared_split(
    first: Bundle,
    second: Bundle,
    source: str,
    name: str | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[str, tuple[Split, Split]]:
    """Load the images that both bundles are to be scored on.

    Args:
        first, second: bundles of the same classes; their sizes may differ.
        source: labelled images; see `training.data.dataset.load`.
        name: which split of them; see `training.data.dataset.choose`.
        progress: called while images are decoded.

    Returns:
        The split's name, and its images in the same order, once as each bundle takes them.

    Raises:
        UsageError: the bundles have different classes, or both were trained on these data and held out different
            images.
    """
    if set(first.card.labels) != set(second.card.labels):
        different = sorted(set(first.card.labels) ^ set(second.card.labels))
        raise UsageError(
            f"{first.folder} and {second.folder} have different classes ({', '.join(different[:5])}): "
            "only bundles of the same classes can be compared"
        )
    cards = first.card, second.card
    loaded = [datasets.load_for(card, source, progress) for card in cards]
    trained = [card for card, dataset in zip(cards, loaded, strict=True) if datasets.trained_on(card, dataset)]
    reference = trained[0] if trained else first.card  # what this one held out is held out for both
    if loaded[0].held_out != loaded[1].held_out and len(trained) < 2:
        # the bundle that was not trained on these data has seen none of them: they are split as for the other one
        loaded = [datasets.load_for(card, source, progress, split_as=reference) for card in cards]
    name = datasets.choose(loaded[0], name, reference)[0]
    fractions = [dataset.held_out for dataset in loaded]
    same_test = name == "test" and not fractions[0][1] and not fractions[1][1]  # the source has its own test split
    if fractions[0] != fractions[1] and not same_test:
        raise UsageError(
            f"{first.folder} and {second.folder} held out different images of {source}: compare them on data that have "
            "a test split, or on other data"
        )
    splits = [datasets.choose(dataset, name, reference)[1] for dataset in loaded]
    return name, (splits[0], splits[1])
