"""What `kernelscope train`, `evaluate`, `compare` and `quantize` take, and their `--help`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Final

from contract.preprocessing import RESIZE_MODES

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}


def train() -> argparse.ArgumentParser:
    """Of `kernelscope train`."""
    parser = argparse.ArgumentParser(
        prog="kernelscope train",
        description="Train a network on labelled images, export it to ONNX, and publish it as a bundle.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope train                                   CIFAR-10, the recipe 'fast'
  kernelscope train --data my-images/               a folder with one folder a class
  kernelscope train --data pets.tar.xz --time-budget 30m
  kernelscope train --recipe seed --data cifar10.zip --epochs 64 --resume""",
    )
    add = parser.add_argument
    add("--data", default="cifar10", metavar="WHERE", help="cifar10, an image folder, an archive of one, or a .npz")
    add("--recipe", default="fast", metavar="NAME", help="fast (the default), small, robust, best, seed or seed-plus")
    add("--output", type=Path, default=Path("out"), metavar="DIR", help="the models folder to publish to (out)")
    add("--name", help="the model's name (that of the data)")
    add("--run", type=Path, metavar="DIR", help="for checkpoints and logs (runs/<name>-<recipe>)")
    add("--resume", action="store_true", help="go on with the run in that folder; start it if there is none")
    add("--epochs", type=_positive, metavar="N", help="passes over the images (the recipe's; more where few)")
    add("--batch-size", type=_positive, metavar="N", help="images a step (the recipe's; less where few)")
    add(
        "--patience",
        type=_natural,
        metavar="N",
        help="end soon after N epochs without a better one; 0: never (a third)",
    )
    add("--teacher", type=Path, metavar="BUNDLE", help="a bundle of the same classes to learn from as well")
    add("--seed", type=_natural, default=0, metavar="N", help="of weights, order and augmentation (0)")
    add(
        "--time-budget",
        type=_duration,
        metavar="TIME",
        help="train for 90s, 30m or 2h at most, schedule included; what follows takes a minute more",
    )
    add("--size", type=_size, metavar="HxW", help="bring images to this size (their own, 224 at most)")
    add(
        "--resize-mode",
        choices=RESIZE_MODES,
        default="crop",
        help="how an image of another shape takes that size (crop)",
    )
    add("--no-flip", action="store_true", help="never mirror images: where left and right tell classes apart")
    add(
        "--validation-fraction",
        type=float,
        default=0.1,
        metavar="F",
        help="share of the images that choices are made by; where there is no test split, as many to test (0.1)",
    )
    _add_unknown(parser)
    add(
        "--precision",
        choices=("auto", "float32", "mixed_bfloat16"),
        default="auto",
        help="auto: bfloat16 where the hardware has it",
    )
    return parser


def evaluate() -> argparse.ArgumentParser:
    """Of `kernelscope evaluate`."""
    parser = argparse.ArgumentParser(
        prog="kernelscope evaluate",
        description="Score a bundle on labelled images, decoded and run as in service.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope evaluate models/cifar10/1 --data cifar10
  kernelscope evaluate out/pets/2 --data pets/ --split validation --json""",
    )
    add = parser.add_argument
    add("bundle", type=Path, help="a folder models/<name>/<version>")
    _add_images(parser)
    add(
        "--corruptions",
        action="store_true",
        help="also on the same images as JPEG of quality 75 and 50, blurred, noisy and brighter (10,000 at most)",
    )
    return parser


def compare() -> argparse.ArgumentParser:
    """Of `kernelscope compare`."""
    parser = argparse.ArgumentParser(
        prog="kernelscope compare",
        description="Set two bundles side by side on the same labelled images: accuracy, calibration, speed, size.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope compare models/cifar10/1 models/cifar10/2 --data cifar10
  kernelscope compare out/pets/1 out/pets/2 --data pets/ --json""",
    )
    add = parser.add_argument
    add("first", type=Path, metavar="A", help="a folder models/<name>/<version>")
    add("second", type=Path, metavar="B", help="another, of the same classes")
    _add_images(parser)
    return parser


def quantize() -> argparse.ArgumentParser:
    """Of `kernelscope quantize`."""
    parser = argparse.ArgumentParser(
        prog="kernelscope quantize",
        description="Make a bundle's int8 form, and publish it if it is twice as fast and as good as before.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope quantize models/cifar10/1 --data cifar10
  kernelscope quantize out/pets/1 --data pets/ --output out""",
    )
    add = parser.add_argument
    add("bundle", type=Path, help="a folder models/<name>/<version>, of float32")
    add("--data", required=True, metavar="WHERE", help="the labelled images that it was trained on")
    add("--output", type=Path, default=Path("out"), metavar="DIR", help="the models folder to publish to (out)")
    _add_unknown(parser)
    return parser


def _add_unknown(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--unknown",
        type=Path,
        metavar="DIR",
        help="a folder of images of other things, to be unsure of beside noise, stripes, clouds and shuffled tiles",
    )


def _add_images(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", required=True, metavar="WHERE", help="cifar10, an image folder, an archive of one, or a .npz")
    add(
        "--split",
        choices=("test", "validation", "train", "all"),
        help="which images (test where the data have one, else what the training kept out of itself, else all)",
    )
    add("--json", action="store_true", help="print JSON")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return int(text)


def _duration(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: write 90s, 30m or 2h")
    return float(found[1]) * _SECONDS[found[2]]


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if not found or not all(8 <= int(side) <= 1024 for side in found.groups()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write height x width, as 64x64, from 8 to 1024")
    return int(found[1]), int(found[2])
