"""Whether fine-tuning gains over frozen features, by cross-validation on the training images; tests are left alone.

    python -m benchmarks.transfer --data flowers.zip
    python -m benchmarks.transfer --data flowers.zip --folds 5 --only 0 1 --seed 1

Each fold is held out in turn. Of the other images a tenth is for validation, as in a training; the linear head and the
network that the recipe `transfer` keeps are then scored on the fold.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from training import provenance, recipes
from training.data import dataset as datasets
from training.data.dataset import Dataset
from training.data.split import Split
from training.loop import trainer
from training.networks import linear_head


def without_fold(dataset: Dataset, folds: int, number: int) -> tuple[Dataset, Split]:
    """Return the dataset without one fold of its training and validation images, and that fold."""
    images = dataset.train.joined(dataset.validation)
    fold = linear_head.folds(images.targets, folds, np.random.default_rng(0))
    rest = images.take(np.flatnonzero(fold != number))
    tenth = linear_head.folds(rest.targets, 10, np.random.default_rng(1))
    train, validation = rest.take(np.flatnonzero(tenth != 0)), rest.take(np.flatnonzero(tenth == 0))
    return replace(dataset, train=train, validation=validation), images.take(np.flatnonzero(fold == number))


def accuracies(dataset: Dataset, held_out: Split, seed: int, console: Console) -> tuple[float, float]:
    """Return the accuracy on held-out images of the frozen network with its head, and of what a training keeps."""

    def score(options: trainer.Options) -> float:
        with tempfile.TemporaryDirectory() as folder:
            trained = trainer.fit(
                recipes.TRANSFER, dataset, options, Path(folder), resume=False, console=Console(file=io.StringIO())
            )
        best = trained.best
        console.print(f"  epoch {best['epoch']} kept, {trained.seconds:.0f} s", highlight=False)
        logits = trainer.predict(trained.model, held_out.images)
        return float((logits.argmax(1) == held_out.targets).mean())

    frozen = score(trainer.Options(seed=seed, precision=None, time_budget=1e-9))
    return frozen, score(trainer.Options(seed=seed, precision=None))


def main() -> int:
    """Print both accuracies of each fold, and their means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", required=True, help="labelled photographs")
    add("--folds", type=int, default=5)
    add("--only", type=int, nargs="*", help="numbers of folds, from 0 (all)")
    add("--seed", type=int, default=0)
    chosen = parser.parse_args()

    console = Console()
    dataset = datasets.load(chosen.data, size=partial(recipes.input_size, recipes.TRANSFER.name))
    height, width = dataset.size
    console.print(f"{provenance.hardware()}; {width}x{height}", highlight=False)
    pairs = []
    for number in range(chosen.folds) if chosen.only is None else chosen.only:
        pairs.append(accuracies(*without_fold(dataset, chosen.folds, number), chosen.seed, console))
        console.print(f"fold {number}: {pairs[-1][0]:.2%} frozen, {pairs[-1][1]:.2%} kept", highlight=False)
    frozen, kept = (statistics.mean(values) for values in zip(*pairs, strict=True))
    console.print(f"mean: {frozen:.2%} frozen, {kept:.2%} kept, {100 * (kept - frozen):+.2f} points", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
