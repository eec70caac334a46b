"""What the cores can do at most: decoding, resizing and the model in a loop, a process for each core, without a server.

    python -m benchmarks.bound --bundle models/cifar10/2 --image examples/cat.jpg

A server's requests a second, over this, is its share of the bound; `benchmarks.serving` measures them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path

from contract import bundle
from contract.preprocessing import MAX_PIXELS, finish, open_header
from contract.session import open_session


def images_per_second(folder: Path, image: bytes, seconds: float) -> float:
    """Return how many images one process with one thread classifies."""
    model = bundle.read(folder)
    card = model.card
    session = open_session(model, threads=1, spin_microseconds=0)

    def classify() -> None:
        pixels = finish(open_header(image, max_pixels=MAX_PIXELS), card.height, card.width, card.resize_mode)
        session.run([bundle.PROBABILITIES], {bundle.INPUT: pixels[None]})

    for _ in range(20):
        classify()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        classify()
        count += 1
    return count / (time.perf_counter() - start)


def main() -> int:
    """Print images a second of all processes together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    chosen = parser.parse_args()
    work = [(chosen.bundle, chosen.image.read_bytes(), chosen.seconds)] * chosen.processes
    with multiprocessing.get_context("spawn").Pool(chosen.processes) as pool:
        rates = [sum(pool.starmap(images_per_second, work, chunksize=1)) for _ in range(chosen.rounds)]
    print(f"{statistics.median(rates):.0f} images/s ({min(rates):.0f}-{max(rates):.0f}), {chosen.processes} processes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
