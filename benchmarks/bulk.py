"""`kernelscope classify` beside onnxruntime alone, which decodes with Pillow and keeps its answers in memory.

    python -m benchmarks.bulk --data cifar10/ [--images N] [--rounds N]

Both use as many processes as there are cores, each with one thread and batches of 64. The baseline does what a script
of thirty lines does: it opens files with Pillow, stacks them, runs the model. It is given the list of the files, bounds
no image, writes nothing, and loses all where it is interrupted. The rounds go A B B A: what changes slowly on the
machine falls on both.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from PIL import Image

from contract import cpu, files, repository
from contract.bundle import INPUT, PROBABILITIES

BATCH: Final = 64


def alone(model: str, paths: list[str]) -> int:
    """What a script does: returns how many images it classified."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    answers = []
    for start in range(0, len(paths), BATCH):
        images = [np.asarray(Image.open(path).convert("RGB")) for path in paths[start : start + BATCH]]
        answers.append(session.run([PROBABILITIES], {INPUT: np.stack(images)})[0].argmax(1))
    return sum(map(len, answers))


class Measured(NamedTuple):
    """Seconds by the clock, and of the processors' time in all processes."""

    wall: float
    processors: float


@contextmanager
def measuring() -> Iterator[list[Measured]]:
    """Measure the block and the processes that end in it; what comes is in the list after it."""
    measured: list[Measured] = []
    before, start = os.times(), time.perf_counter()
    yield measured
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    measured.append(Measured(time.perf_counter() - start, used))


def baseline(model: Path, paths: list[str]) -> Measured:
    """Measure onnxruntime alone in as many processes as there are cores, their start included."""
    cores = cpu.cores()
    with measuring() as measured, multiprocessing.get_context("spawn").Pool(cores) as pool:
        counts = pool.starmap(alone, [(str(model), paths[number::cores]) for number in range(cores)])
        pool.close()
        pool.join()
    assert sum(counts) == len(paths)
    return measured[0]


def classify(folder: Path, output: Path) -> Measured:
    """Measure the command, from its start to its end."""
    words = [sys.executable, "-m", "kernelscope", "classify", str(folder), "--output", str(output)]
    with measuring() as measured:
        subprocess.run(words, check=True, capture_output=True)
    return measured[0]


def main() -> None:
    """Measure, and print the ratio of each round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of images of 32x32")
    parser.add_argument("--images", type=int, default=20_000, help="how many of them")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    root = repository.shipped()
    model = repository.find(root, "cifar10")
    folder = Path(tempfile.mkdtemp())
    images = folder / "images"
    paths = files.images(chosen.data)[:: max(1, len(files.images(chosen.data)) // chosen.images)][: chosen.images]
    for number, path in enumerate(paths):  # links, so that both read the same files from one folder
        link = images / f"{number // 1000:04}" / f"{number:07}{path.suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.absolute())
    listed = [str(path) for path in files.images(images)]
    ratios = []
    try:
        for number in range(chosen.rounds):
            output = folder / f"results-{number}"
            if number % 2:
                ours, theirs = classify(images, output), baseline(model.model, listed)
            else:
                theirs, ours = baseline(model.model, listed), classify(images, output)
            ratios.append((theirs.wall / ours.wall, theirs.processors / ours.processors))
            pace, ours_pace = len(listed) / theirs.wall, len(listed) / ours.wall
            print(
                f"{len(listed):,} images; a second: onnxruntime alone {pace:,.0f}, classify {ours_pace:,.0f}: "
                f"{ratios[-1][0]:.0%}; processor time {theirs.processors:.1f} and {ours.processors:.1f} s: "
                f"{ratios[-1][1]:.0%}",
                flush=True,
            )
    finally:
        shutil.rmtree(folder)
    for name, values in zip(("the clock", "processor time"), zip(*ratios, strict=True), strict=True):
        print(f"by {name}: median {statistics.median(values):.0%}, {min(values):.0%} to {max(values):.0%}")


if __name__ == "__main__":
    main()
