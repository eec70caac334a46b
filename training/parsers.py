"""The options of `kernelscope train`, `inspect`, `evaluate`, `compare` and `quantize`, and their `--help`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Final

from contract.preprocessing import RESIZE_MODES

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
_DATA: Final = "labelled images: cifar10, an image folder, an archive of one, a .csv of files and labels, or a .npz"


def train() -> argparse.ArgumentParser:
    """Return the parser of `kernelscope train`."""
    parser = argparse.ArgumentParser(
        prog="kernelscope train",
        description="Train a network on labelled images, export it to ONNX, and publish it as a bundle.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope train                                   CIFAR-10, the recipe fast
  kernelscope train --data my-images/                 a folder with one subfolder for each class
  kernelscope train --data pets.tar.xz --time-budget 30m
  kernelscope train --recipe seed --data cifar10.zip --epochs 64 --resume""",
    )
    add = parser.add_argument
    add("--data", default="cifar10", metavar="WHERE", help=f"{_DATA} (default: cifar10)")
    add(
        "--recipe",
        default="auto",
        metavar="NAME",
        help="transfer, fast, small, small-jpeg, robust, best, seed or seed-plus (default: auto, which is "
        "transfer for images of 64 pixels or larger, fast for smaller ones)",
    )
    add(
        "--backbone",
        choices=("efficientnet-lite0", "efficientnet-lite2"),
        help="pre-trained network of the recipe transfer (default: efficientnet-lite0)",
    )
    _add_output(parser)
    add("--name", help="the model's name (default: the name of the data)")
    add("--run", type=_writable, metavar="DIR", help="folder for checkpoints and logs (default: runs/<name>-<recipe>)")
    add("--resume", action="store_true", help="continue the run in that folder; start it if there is none")
    add(
        "--epochs",
        type=_positive,
        metavar="N",
        help="passes over the training images (default: the recipe's, more for a small dataset)",
    )
    add(
        "--batch-size",
        type=_positive,
        metavar="N",
        help="images in a training step (default: the recipe's, fewer for a small dataset)",
    )
    add(
        "--patience",
        type=_natural,
        metavar="N",
        help="stop early after N epochs without improvement; 0 disables it (default: a third of the epochs, at least "
        "5)",
    )
    add("--from", dest="initial", type=Path, metavar="BUNDLE", help="start from this float32 bundle's weights")
    add("--teacher", type=Path, metavar="BUNDLE", help="distil this bundle, which must have the same classes and size")
    add(
        "--seed",
        type=_natural,
        default=0,
        metavar="N",
        help="seed of the initial weights, the order of images and the augmentation (default: 0)",
    )
    add(
        "--time-budget",
        type=_duration,
        metavar="TIME",
        help="train for at most this time (90s, 30m, 2h), with the learning-rate schedule adapted to it; "
        "export and evaluation take about a minute more",
    )
    _add_size(parser)
    add("--no-flip", action="store_true", help="no mirroring in the augmentation; for letters or traffic signs, say")
    add(
        "--validation-fraction",
        type=float,
        default=0.1,
        metavar="F",
        help="fraction of the training images held out for validation. Without a test split, the same fraction is held "
        "out for testing (default: 0.1)",
    )
    _add_unknown(parser)
    add(
        "--precision",
        choices=("auto", "float32", "mixed_bfloat16"),
        default="auto",
        help="precision of the computation; auto is bfloat16 where the hardware supports it, float32 for "
        "transfer on a CPU (default: auto)",
    )
    add(
        "--executor",
        choices=("auto", "host", "resident", "streamed"),
        default="auto",
        help="how steps are run: host, one by one; with JAX also many in one call, on training images that are "
        "resident in the memory of a GPU, or streamed to it (default: auto, which is host on a CPU)",
    )
    add(
        "--features",
        type=float,
        default=0.0,
        metavar="MINUTES",
        help="at the end, find what the network's channels respond to, as `kernelscope features` does; the time is for "
        "making images (default: 0, which leaves it out)",
    )
    _add_keep_examples(parser)
    return parser


def inspect() -> argparse.ArgumentParser:
    """Return the parser of `kernelscope inspect`."""
    parser = argparse.ArgumentParser(
        prog="kernelscope inspect",
        description="Say which classes and splits labelled images have, and what is wrong with them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope inspect my-images/
  kernelscope inspect pets.zip --sheet pets.png
  kernelscope inspect my-images/ --json               classes, splits and problems (docs/train.md has their kinds)""",
    )
    add = parser.add_argument
    add("data", metavar="DATA", help=_DATA)
    add("--json", action="store_true", help="print JSON")
    add(
        "--sheet",
        type=Path,
        metavar="PNG",
        help="where to write a contact sheet (default: runs/<name>-contact-sheet.png; with --json none)",
    )
    _add_size(parser)
    return parser


def evaluate() -> argparse.ArgumentParser:
    """Return the parser of `kernelscope evaluate`."""
    parser = argparse.ArgumentParser(
        prog="kernelscope evaluate",
        description="Score a bundle on labelled images, which are decoded and run as in service.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope evaluate models/cifar10/3 --data cifar10 --corruptions
  kernelscope evaluate out/pets/2 --data pets/ --split validation --json""",
    )
    add = parser.add_argument
    add("bundle", type=Path, help="a folder models/<name>/<version>")
    _add_data(parser)
    add(
        "--corruptions",
        action="store_true",
        help="also score the same images as JPEG of quality 75 and 50, blurred, noisy and brighter (at most 10,000)",
    )
    return parser


def compare() -> argparse.ArgumentParser:
    """Return the parser of `kernelscope compare`."""
    parser = argparse.ArgumentParser(
        prog="kernelscope compare",
        description="Compare two bundles on the same labelled images: accuracy, calibration, speed, size.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope compare models/cifar10/2 models/cifar10/3 --data cifar10
  kernelscope compare out/pets/1 out/pets/2 --data pets/ --json""",
    )
    add = parser.add_argument
    add("first", type=Path, metavar="A", help="a folder models/<name>/<version>")
    add("second", type=Path, metavar="B", help="another one, of the same classes")
    _add_data(parser)
    return parser


def quantize() -> argparse.ArgumentParser:
    """Return the parser of `kernelscope quantize`."""
    parser = argparse.ArgumentParser(
        prog="kernelscope quantize",
        description="Convert a bundle to int8, and publish it if it is 1.5 times as fast and about as accurate.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope quantize out/cifar10/1 --data cifar10
  kernelscope quantize out/pets/1 --data pets/ --output out""",
    )
    add = parser.add_argument
    add("bundle", type=Path, help="a folder models/<name>/<version> with a float32 model")
    add("--data", required=True, metavar="WHERE", help="the labelled images that the bundle was trained on")
    _add_output(parser)
    _add_unknown(parser)
    return parser


def interpolate() -> argparse.ArgumentParser:
    """Return the parser of `kernelscope interpolate`."""
    parser = argparse.ArgumentParser(
        prog="kernelscope interpolate",
        description="Mix the weights of a fine-tuned model with those that it was fine-tuned from, and publish the "
        "best mixture in float32. The images that were held out for validation choose it, as they are and as JPEG.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope train --data cifar10 --recipe small --output out
  kernelscope train --data cifar10 --recipe small-jpeg --from out/cifar10/1 --output out
  kernelscope interpolate out/cifar10/1 out/cifar10/2 --data cifar10 --output out""",
    )
    add = parser.add_argument
    add("base", type=Path, metavar="BASE", help="a folder models/<name>/<version>: what was fine-tuned")
    add("tuned", type=Path, metavar="TUNED", help="what became of it, by kernelscope train --from BASE")
    add("--data", required=True, metavar="WHERE", help="the labelled images that both were trained on")
    _add_output(parser)
    add(
        "--quality",
        type=_quality,
        default=75,
        metavar="N",
        help="the mean of the accuracy on images as they are and as JPEG of this quality chooses the mixture; 0: as "
        "they are only (default: 75)",
    )
    _add_unknown(parser)
    return parser


def features() -> argparse.ArgumentParser:
    """Return the parser of `kernelscope features`."""
    parser = argparse.ArgumentParser(
        prog="kernelscope features",
        description="Find what each channel of a model responds to: the training images that excite it most and least, "
        "and an image that is made for it. Also the features by which images like a new one are found. All of it is "
        "put beside the bundle, in inside/.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope features models/cifar10/3 --data cifar10
  kernelscope features out/pets/1 --data pets/ --keep-examples --minutes 30""",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a folder models/<name>/<version>")
    parser.add_argument(
        "--data", required=True, metavar="WHERE", help="the labelled images that the bundle was trained on"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=10.0,
        metavar="N",
        help="time for making images; channels that are not reached have none; 0: none are made (default: 10)",
    )
    parser.add_argument(
        "--steps", type=_positive, default=128, metavar="N", help="steps of gradient ascent for each (default: 128)"
    )
    parser.add_argument(
        "--images",
        type=_positive,
        metavar="N",
        help="training images to look at, evenly from all (default: all)",
    )
    _add_keep_examples(parser)
    return parser


def _add_keep_examples(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep-examples",
        action="store_true",
        help="with what channels respond to, also keep small copies of the training images, to be shown: whoever has "
        "the bundle, or may ask its server, can see them (default: their numbers alone)",
    )


def _add_size(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--size",
        type=_size,
        metavar="HxW",
        help="height x width that images are resized to (default: for transfer a square of 160 to 224 pixels; else "
        "their own or, if they differ, the median, at most 224)",
    )
    add(
        "--resize-mode",
        choices=RESIZE_MODES,
        default="crop",
        help="how an image of another shape is brought to that size (default: crop)",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output",
        type=_writable,
        default=Path("out"),
        metavar="DIR",
        help="the models folder to publish to (default: out)",
    )


def _add_unknown(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--unknown",
        type=Path,
        metavar="DIR",
        help="a folder of images that belong to none of the classes. The rejection threshold, below which an answer is "
        "called unsure, is fitted on them and on synthetic noise, stripes, clouds and shuffled tiles",
    )


def _add_data(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", required=True, metavar="WHERE", help=_DATA)
    add(
        "--split",
        choices=("test", "validation", "train", "all"),
        help="which of the images (default: test where the data have a test split; else the validation split of data "
        "that the bundle was trained on, and all images of other data)",
    )
    add("--json", action="store_true", help="print JSON")


def _writable(text: str) -> Path:
    """A folder that TensorFlow and onnxruntime can write to and read from, which take names in UTF-8 only."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not valid UTF-8: give a folder whose name is") from None
    return Path(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return int(text)


def _quality(text: str) -> int:
    if not text.isdecimal() or int(text) > 95:
        raise argparse.ArgumentTypeError(f"{text!r} is not a JPEG quality: give 1 to 95, or 0 for none")
    return int(text)


def _duration(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: write 90s, 30m or 2h")
    return float(match[1]) * _SECONDS[match[2]]


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or not all(8 <= int(side) <= 1024 for side in match.groups()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write height x width, such as 64x64, from 8 to 1024")
    return int(match[1]), int(match[2])
