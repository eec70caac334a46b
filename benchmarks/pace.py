"""How long recipes take beside each other: some steps of each, in turns, on one machine.

    python -m benchmarks.pace --data cifar10.zip fast seed
    python -m benchmarks.pace --data cifar10.zip fast seed --turns 5 --images 49000

A turn trains each recipe for three short epochs; the first holds what a run does once, and is left out. What is told is
the time of a whole run with so many training images, and how it compares with the last recipe's.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from training import provenance, recipes
from training.data import dataset as datasets
from training.data.dataset import Dataset
from training.loop import trainer
from training.recipes import Recipe


def seconds_per_image(recipe: Recipe, dataset: Dataset) -> float:
    """What a training image costs, by the faster of two epochs: either may be held up by something else."""
    options = trainer.Options(epochs=3, batch_size=recipe.batch_size, precision=provenance.best_precision(), patience=0)
    with tempfile.TemporaryDirectory() as folder:
        run = trainer.fit(recipe, dataset, options, Path(folder), resume=False, console=Console(file=io.StringIO()))
    ends = [row["seconds"] for row in run.history]
    return float(min(np.diff(ends))) / (len(dataset.train) // recipe.batch_size * recipe.batch_size)


def main() -> int:
    """Take turns; print each, and the median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("recipes", nargs="+", help="two or more; the last is what the others are compared with")
    add("--data", required=True, help="CIFAR-10, or any labelled images")
    add("--turns", type=int, default=3)
    add("--steps", type=int, default=12, help="in an epoch, of 1,024 images each, or as many more smaller ones (12)")
    add("--images", type=int, default=45_000, help="to train on in a whole run (45,000)")
    chosen = parser.parse_args()

    whole = datasets.load(chosen.data)
    order = np.random.default_rng(0).permutation(len(whole.train))[: chosen.steps * 1024]
    dataset = replace(whole, train=whole.train.take(order), validation=whole.validation.take(np.arange(100)))
    print(f"{provenance.hardware()}, {provenance.best_precision()}")
    seconds: dict[str, list[float]] = {name: [] for name in chosen.recipes}
    for turn in range(chosen.turns):
        for name in chosen.recipes:
            recipe = recipes.find(name)
            a_run = chosen.images // recipe.batch_size * recipe.batch_size * recipe.epochs
            seconds[name].append(seconds_per_image(recipe, dataset) * a_run)
        last = seconds[chosen.recipes[-1]][turn]
        told = (f"{name} {times[turn]:.0f} s ({times[turn] / last:.3f})" for name, times in seconds.items())
        print(f"turn {turn + 1}: {', '.join(told)}", flush=True)
    base = seconds[chosen.recipes[-1]]
    print(f"\n| recipe | epochs | a whole run | beside {chosen.recipes[-1]} |\n|---|---|---|---|")
    for name, times in seconds.items():
        ratios = [mine / reference for mine, reference in zip(times, base, strict=True)]
        print(
            f"| `{name}` | {recipes.find(name).epochs} | {statistics.median(times) / 60:.1f} min | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
