"""`kernelscope classify` beside onnxruntime alone, which decodes with Pillow and keeps its answers in memory.

    python -m benchmarks.bulk --data cifar10/ [--images N] [--rounds N]

Both use as many processes as there are cores, each with one thread and batches of 64; both begin with the list of the
images. The baseline does what a script of thirty lines does: it opens files with Pillow, stacks them, runs the model.
It lists no folder, bounds no image, writes nothing, and loses all where it is interrupted. The rounds take turns.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

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


def baseline(model: Path, paths: list[str]) -> float:
    """Seconds of onnxruntime alone in as many processes as there are cores, their start included."""
    cores = cpu.cores()
    start = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        counts = pool.starmap(alone, [(str(model), paths[number::cores]) for number in range(cores)])
    assert sum(counts) == len(paths)
    return time.perf_counter() - start


def classify(manifest: Path, output: Path) -> float:
    """Seconds of the command, from its start to its end."""
    start = time.perf_counter()
    words = [sys.executable, "-m", "kernelscope", "classify", str(manifest), "--output", str(output)]
    subprocess.run(words, check=True, capture_output=True)
    return time.perf_counter() - start


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
            by_script, by_command = baseline(model.model, listed), classify(images, folder / f"results-{number}")
            ratios.append(by_script / by_command)
            print(
                f"{len(listed):,} images: onnxruntime alone {len(listed) / by_script:,.0f} a second, "
                f"kernelscope classify {len(listed) / by_command:,.0f}: {ratios[-1]:.0%}",
                flush=True,
            )
    finally:
        shutil.rmtree(folder)
    print(f"median {statistics.median(ratios):.0%} of onnxruntime alone, {min(ratios):.0%} to {max(ratios):.0%}")


if __name__ == "__main__":
    main()
