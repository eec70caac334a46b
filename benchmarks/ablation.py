"""What each part of the recipe `fast` brings: the recipe without it, beside the whole, on the same images.

    python -m benchmarks.ablation --data cifar10.zip
    python -m benchmarks.ablation --data cifar10.zip --widths 64,256,256 --epochs 15 --batch-size 512 --images 45000

Smaller than the recipe by default, so that two cores are done within an hour: a third of the images, a quarter of
the kernels, few epochs. The figure is the accuracy of the last epoch on the held-out images; the test images are
left alone. Runs of one seed stand side by side, so that what is compared differs in one thing only.
"""

from __future__ import annotations

import argparse
import csv
import io
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console

from training import optimisers, provenance
from training.data import augment
from training.data import dataset as datasets
from training.loop import trainer
from training.networks import architectures
from training.recipes import FAST, Recipe


@dataclass(frozen=True)
class Plain(architectures.Whitened):
    """The network with some of its parts as Keras has them by default."""

    whitened: bool = True
    dirac: bool = True

    def build(self, size: tuple[int, int], classes: int, *, for_export: bool = False) -> keras.Model:
        """As `Whitened.build`, but the first convolution is trained, and kernels start at random."""
        model = super().build(size, classes, for_export=for_export)
        for layer in model.layers:
            if not isinstance(layer, keras.layers.Conv2D):
                continue
            if layer.name == architectures.WHITENING and not self.whitened:
                layer.kernel.trainable = True
                layer.name = "plain"  # `whiten` finds nothing to set
            elif layer.name != architectures.WHITENING and not self.dirac:
                layer.kernel.assign(keras.initializers.HeUniform()(layer.kernel.shape))
        return model


def variants(whole: Recipe) -> dict[str, Recipe]:
    """The whole recipe, and it without one part at a time."""
    network, sgd = whole.network, whole.optimiser
    assert isinstance(network, architectures.Whitened)
    assert isinstance(sgd, optimisers.Nesterov)
    shape: dict[str, Any] = {field.name: getattr(network, field.name) for field in fields(network)}
    flip, translate = whole.augmentation
    return {
        "the whole recipe": whole,
        "a first convolution that is trained, not whitened": replace(whole, network=Plain(**shape, whitened=False)),
        "kernels that start at random, not as identities": replace(whole, network=Plain(**shape, dirac=False)),
        "ReLU, not GELU": replace(whole, network=replace(network, activation="relu")),
        "batches twice as large": replace(whole, batch_size=2 * whole.batch_size, optimiser=sgd.at_batch(2)),
        "biases of batch normalisation at the kernels' learning rate, not 64 times it": replace(
            whole, optimiser=replace(sgd, bias_factor=1.0)
        ),
        "no label smoothing": replace(whole, label_smoothing=0.0),
        "no Lookahead": replace(whole, averaging=None),
        "flips drawn anew each time, not alternating": replace(whole, augmentation=(augment.Flip(), translate)),
        "no translation": replace(whole, augmentation=(flip,)),
        "logits not scaled": replace(whole, network=replace(network, scale=1.0)),
        "normalisation that remembers 0.99, not 0.8": replace(whole, network=replace(network, momentum=0.99)),
        "a learning rate that falls from its peak along a cosine, not up and down a triangle": replace(
            whole, schedule=optimisers.Cosine()
        ),
        "momentum of 0.9, not 0.85": replace(whole, optimiser=replace(sgd, momentum=0.9)),
        "Adam at 1e-3 and a cosine": replace(whole, optimiser=optimisers.Adam(), schedule=optimisers.Cosine()),
    }


def main() -> int:
    """Run every variant at every seed; print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", required=True, help="CIFAR-10, or any labelled images")
    add("--widths", default="16,64,64", help="kernels in each group (16,64,64)")
    add("--epochs", type=int, default=8)
    add("--batch-size", type=int, default=256)
    add("--images", type=int, default=15_000, help="to train on (15,000)")
    add("--seeds", type=int, default=2)
    add("--csv", type=Path, help="also write every run's figure there")
    chosen = parser.parse_args()

    everything = datasets.load(chosen.data)
    dataset = replace(everything, train=everything.train.take(_every(len(everything.train), chosen.images)))
    widths = tuple(int(width) for width in chosen.widths.split(","))
    assert isinstance(FAST.network, architectures.Whitened)
    whole = replace(FAST, network=replace(FAST.network, widths=widths))
    precision = provenance.best_precision()
    print(
        f"{provenance.hardware()}, {precision}; {len(dataset.train):,} images, {len(dataset.validation):,} held out; "
        f"{widths}"
    )
    figures: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for seed in range(chosen.seeds):
        for name, recipe in variants(whole).items():
            size = chosen.batch_size * recipe.batch_size // whole.batch_size
            options = trainer.Options(epochs=chosen.epochs, batch_size=size, seed=seed, precision=precision, patience=0)
            started = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                run = trainer.fit(
                    recipe, dataset, options, Path(folder), resume=False, console=Console(file=io.StringIO())
                )
            seconds.setdefault(name, []).append(time.monotonic() - started)
            figures.setdefault(name, []).append(run.history[-1]["validation_accuracy"])
            print(f"seed {seed}  {figures[name][-1]:.2%}  {seconds[name][-1]:4.0f} s  {name}", flush=True)
    base = figures["the whole recipe"]
    print("\n| | held-out accuracy, mean | beside the whole, same seed | seconds |\n|---|---|---|---|")
    for name, values in figures.items():
        gaps = [100 * (value - whole_value) for value, whole_value in zip(values, base, strict=True)]
        beside = "" if values is base else f"{statistics.mean(gaps):+.2f} ({min(gaps):+.2f} to {max(gaps):+.2f})"
        print(f"| {name} | {statistics.mean(values):.2%} | {beside} | {statistics.mean(seconds[name]):.0f} |")
    if chosen.csv:
        with chosen.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("variant", "seed", "validation_accuracy", "seconds"))
            for name, values in figures.items():
                for seed, value in enumerate(values):
                    writer.writerow((name, seed, value, round(seconds[name][seed], 1)))
    return 0


def _every(there: int, wanted: int) -> Any:
    return np.random.default_rng(0).permutation(there)[:wanted]


if __name__ == "__main__":
    sys.exit(main())
