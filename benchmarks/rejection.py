"""How often bundles call their answers unsure: on test images, right and wrong, and on out-of-distribution images.

    python -m benchmarks.sets digits images/digits
    python -m benchmarks.rejection models/cifar10/2 --data cifar10.zip --other images/digits

The rejection threshold is that of the card. It was fitted on none of these images.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from contract import files, preprocessing
from contract.bundle import read
from training.data import dataset as datasets
from training.evaluation import evaluate
from training.evaluation.calibrate import softmax


def main() -> int:
    """Print a table with a row for each bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("bundles", nargs="+", type=Path)
    add("--data", required=True, help="with a test split that none of the bundles was trained on")
    add("--other", required=True, type=Path, help="a folder of out-of-distribution images")
    chosen = parser.parse_args()

    paths = files.images(chosen.other)
    print(f"| | threshold | right | wrong | {len(paths):,} of {chosen.other.name} |\n|---|---|---|---|---|")
    for folder in chosen.bundles:
        bundle = read(folder)
        card = bundle.card
        test = datasets.choose(datasets.load_for(card, chosen.data), "test", card)[1]
        other = np.stack(
            [preprocessing.read(files.contents(path), card.height, card.width, card.resize_mode) for path in paths]
        )
        known, ood = (
            softmax(evaluate.unsmoothed_logits(bundle, images), card.temperature) for images in (test.images, other)
        )
        is_right = known.argmax(1) == test.targets
        unsure = known.max(1) < card.unsure_below
        shares = (unsure[is_right], unsure[~is_right], ood.max(1) < card.unsure_below)
        print(f"| {folder} | {card.unsure_below:g} | {' | '.join(f'{share.mean():.1%}' for share in shares)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
