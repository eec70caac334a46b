"""How far a bundle's int8 forms are from it, and how fast each is.

All convolutions are in int8, or the first is in float32; activations are clipped beyond one percentile or another.

    python -m benchmarks.integers out/cifar10/1 --data cifar10.zip

The distance is the mean Kullback-Leibler divergence of the answers to training images, most of which set no ranges.
Times are taken in turns, one image on one thread and batches of 64 on all cores.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from contract.bundle import INPUT, PROBABILITIES, Bundle, read
from contract.session import open_session
from training import provenance
from training.data import dataset as datasets
from training.evaluation import evaluate
from training.evaluation.calibrate import Floats, softmax
from training.export import model_file, quantize
from training.export.quantize import Form

IMAGES = 3000
TURNS = 15


def divergence(exact: Floats, other: Floats, temperature: float) -> float:
    """The mean over images, in nats, of logits (N, classes)."""
    p, q = (np.maximum(softmax(logits, temperature), 1e-12) for logits in (exact, other))
    return float((p * np.log(p / q)).sum(1).mean())


def milliseconds(forms: list[Bundle], images: int, threads: int, runs: int) -> list[float]:
    """The median over the turns, of each form."""
    card = forms[0].card
    feed = {INPUT: np.zeros((images, card.height, card.width, 3), np.uint8)}
    sessions = [open_session(bundle, threads=threads) for bundle in forms]
    medians: list[list[float]] = [[] for _ in forms]
    for _ in range(TURNS):
        for session, times in zip(sessions, medians, strict=True):
            took = []
            for _ in range(runs):
                start = time.perf_counter()
                session.run([PROBABILITIES], feed)
                took.append(time.perf_counter() - start)
            times.append(statistics.median(took) * 1000)
    return [statistics.median(times) for times in medians]


def main() -> int:
    """Make both forms; print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("bundle", type=Path, help="of float32")
    add("--data", required=True, help="what it was trained on")
    chosen = parser.parse_args()

    exact = read(chosen.bundle)
    train = datasets.load_for(exact.card, chosen.data).train.images
    images = train[np.random.default_rng(1).permutation(len(train))[:IMAGES]]
    tried = [Form(count, percentile) for count in (0, 1) for percentile in (99.9, 99.99, 99.999)]
    with tempfile.TemporaryDirectory() as folder:
        bundles = [exact]
        for number, form in enumerate(tried):
            place = Path(folder, str(number))
            place.mkdir()
            bundles.append(model_file.save_draft(quantize.convert(exact, train, form), exact.card, place))
        logits = [evaluate.unsmoothed_logits(bundle, images) for bundle in bundles]
        single, batch = milliseconds(bundles, 1, 1, 40), milliseconds(bundles, 64, 0, 3)
    print(f"{provenance.hardware()}; {len(images):,} images\n")
    print("| | divergence | same answer | one image, one thread | 64 images, all cores |\n|---|---|---|---|---|")
    names = [
        f"int8{', the first convolution in float32' if form.float32_convolutions else ''}, {form.percentile:g}"
        for form in tried
    ]
    for name, answers, latency, together in zip(["float32", *names], logits, single, batch, strict=True):
        same = (answers.argmax(1) == logits[0].argmax(1)).mean()
        far = divergence(logits[0], answers, exact.card.temperature)
        print(f"| {name} | {far:.1e} | {same:.2%} | {latency:.2f} ms | {together:.1f} ms |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
