"""What a convolution's gradient by its input costs: as TensorFlow computes it, and as a forward convolution.

    python -m benchmarks.backward
    python -m benchmarks.backward --turns 5 --recipes fast seed small --precision mixed_bfloat16

First each 3×3 convolution of the recipes' networks by itself, then whole training steps, in turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, get_args
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from training import provenance, recipes
from training.networks import architectures, layer_table
from training.networks.convolution import Convolution

_IMAGES = 256


def gradient(layer: keras.layers.Conv2D, side: int, channels: int) -> Callable[[], Any]:
    """Computes the gradient by the input of a layer, for `_IMAGES` planes (side, side, channels)."""
    layer.build((None, side, side, channels))
    x = tf.random.normal((_IMAGES, side, side, channels), dtype=layer.compute_dtype)
    upstream = tf.random.normal((_IMAGES, side, side, layer.filters), dtype=layer.compute_dtype)

    @tf.function  # type: ignore[untyped-decorator]  # tensorflow is untyped
    def compute() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return tape.gradient(y, x, upstream)

    return compute


def steps(recipe: recipes.Recipe, *, keras_way: bool) -> Callable[[], Any]:
    """Trains on 1,024 random images of 32 pixels."""
    ours, theirs = Convolution.convolution_op, keras.layers.Conv2D.convolution_op
    with mock.patch.object(Convolution, "convolution_op", theirs if keras_way else ours):
        model = recipe.network.build((32, 32), 10)
        model.compile(recipe.optimiser.make(), keras.losses.CategoricalCrossentropy(from_logits=True))
        rng = np.random.default_rng(0)
        x = rng.integers(0, 256, (recipe.batch_size, 32, 32, 3)).astype(np.float32)
        y = np.eye(10, dtype=np.float32)[rng.integers(0, 10, len(x))]
        model.train_on_batch(x, y)  # traced here, with the one or the other

    def train() -> None:
        for _ in range(1024 // len(x)):
            model.train_on_batch(x, y)

    return train


def in_turns(turns: int, *works: Callable[[], Any]) -> list[list[float]]:
    """Seconds of each, turn by turn, after one that does not count."""
    for work in works:
        work()
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(turns):
        for work, times in zip(works, seconds, strict=True):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
    return seconds


def row(name: str, times: list[list[float]]) -> str:
    """A row of the table: medians, and the ratio with its range."""
    ratios = [before / after for before, after in zip(*times, strict=True)]
    before, after = (1000 * statistics.median(each) for each in times)
    return (
        f"| {name} | {before:.0f} ms | {after:.0f} ms | "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
    )


def table(names: list[str], turns: int) -> None:
    """Print a row a shape of convolution, and a row a recipe."""
    seen = set()
    for name in names:
        model = recipes.find(name).network.build((32, 32), 10)
        shapes = {layer.name: tuple(layer.input.shape[1:]) for layer in model.layers if isinstance(layer, Convolution)}
        for layer in layer_table.table(model):
            if layer.name not in shapes:
                continue
            side, _, channels = shapes[layer.name]
            shape = (side, channels, layer.output[2])
            if channels == 3 or shape in seen:  # images need no gradient
                continue
            seen.add(shape)
            plain = keras.layers.Conv2D(shape[2], 3, padding="same", use_bias=False)
            times = in_turns(turns, gradient(plain, side, channels), gradient(Convolution(shape[2]), side, channels))
            print(row(f"{channels} to {shape[2]} kernels, {side}×{side}, {_IMAGES} images", times), flush=True)
    for name in names:
        recipe = recipes.find(name)
        times = in_turns(turns, steps(recipe, keras_way=True), steps(recipe, keras_way=False))
        print(row(f"`{name}`, whole steps, 1,024 images", times), flush=True)


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--recipes", nargs="+", default=["fast", "seed"])
    add("--turns", type=int, default=5)
    add("--precision", choices=get_args(architectures.Precision), default="float32")
    chosen = parser.parse_args()
    print(f"{provenance.hardware()}, {chosen.precision}\n")
    print("| | TensorFlow's | forward | times as fast |\n|---|---|---|---|")
    with architectures.precision(chosen.precision):
        table(chosen.recipes, chosen.turns)
    return 0


if __name__ == "__main__":
    sys.exit(main())
