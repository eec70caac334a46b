"""Labelled images that are not CIFAR-10, made on disk, to train on as anyone would on their own.

python -m benchmarks.sets shapes images/shapes     six shapes at 128 pixels, JPEG, 900 to train and 300 to test
python -m benchmarks.sets digits images/digits     scikit-learn's 1,797 handwritten digits at 32 pixels, PNG
python -m benchmarks.sets many images/many         1,000 classes of ten images at 32 pixels, PNG
python -m benchmarks.sets crops images/crops       300 crops of scikit-learn's two photographs, for `--unknown`

kernelscope train --data images/shapes
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Image = Image.Image
SHAPES = ("circle", "cross", "ring", "square", "star", "triangle")


def shapes() -> Iterator[tuple[str, Image]]:
    """One shape an image, of any colour, size, place and turn, before a background of blurred noise."""
    rng = np.random.default_rng(0)
    for split, each in (("train", 150), ("test", 50)):
        for shape in SHAPES:
            for number in range(each):
                small = rng.integers(0, 256, (int(rng.integers(3, 20)),) * 2 + (3,), np.uint8)
                image = Image.fromarray(small).resize((128, 128), Image.Resampling.BICUBIC)
                middle, radius = rng.uniform(40, 88, 2), rng.uniform(14, 36)
                colour = tuple(int(value) for value in rng.integers(0, 256, 3))
                _draw(ImageDraw.Draw(image), shape, middle, radius, rng.uniform(0, 2 * math.pi), colour)
                yield f"{split}/{shape}/{number}.jpg", image


def _draw(
    draw: ImageDraw.ImageDraw,
    shape: str,
    middle: npt.NDArray[np.float64],
    radius: float,
    turn: float,
    colour: tuple[int, ...],
) -> None:
    box = [*(middle - radius), *(middle + radius)]
    width = max(4, round(radius / 4))
    if shape == "circle":
        draw.ellipse(box, fill=colour)
    elif shape == "ring":
        draw.ellipse(box, outline=colour, width=width)
    elif shape == "cross":
        for angle in (turn, turn + math.pi / 2):
            arm = radius * np.array([math.cos(angle), math.sin(angle)])
            draw.line([*(middle - arm), *(middle + arm)], fill=colour, width=2 * width)
    else:
        corners = {"triangle": 3, "square": 4, "star": 10}[shape]
        reach = [radius * (0.45 if shape == "star" and i % 2 else 1) for i in range(corners)]
        angles = [turn + 2 * math.pi * i / corners for i in range(corners)]
        points = [
            (middle[0] + r * math.cos(a), middle[1] + r * math.sin(a)) for r, a in zip(reach, angles, strict=True)
        ]
        draw.polygon(points, fill=colour)


def digits() -> Iterator[tuple[str, Image]]:
    """Handwritten digits of 8 pixels, enlarged to 32."""
    from sklearn.datasets import load_digits

    digit_set = load_digits()
    for number, (values, label) in enumerate(zip(digit_set.images, digit_set.target, strict=True)):
        small = Image.fromarray((values * (255 / 16)).round().astype(np.uint8))
        yield f"{label}/{number}.png", small.resize((32, 32), Image.Resampling.BICUBIC).convert("RGB")


def many() -> Iterator[tuple[str, Image]]:
    """A class is a pattern of four by four colours; its images are that, shifted, lit and made noisy."""
    rng = np.random.default_rng(0)
    for label in range(1000):
        pattern = rng.integers(0, 256, (4, 4, 3)).repeat(8, 0).repeat(8, 1)
        for number in range(10):
            moved = np.roll(pattern, rng.integers(-3, 4, 2), (0, 1)) * rng.uniform(0.6, 1.2)
            noisy = np.clip(moved + rng.normal(0, 30, moved.shape), 0, 255).astype(np.uint8)
            yield f"class-{label:04d}/{number}.png", Image.fromarray(noisy)


def crops() -> Iterator[tuple[str, Image]]:
    """Squares of 32 to 200 pixels from anywhere in the photographs of a temple and of a flower."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    photographs = load_sample_images().images
    for number in range(300):
        photograph = photographs[number % len(photographs)]
        side = int(rng.integers(32, 201))
        top, left = (int(rng.integers(0, length - side + 1)) for length in photograph.shape[:2])
        yield f"{number}.png", Image.fromarray(photograph[top : top + side, left : left + side])


KINDS = {"shapes": shapes, "digits": digits, "many": many, "crops": crops}


def main() -> int:
    """Make one of them in a folder that is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    if chosen.folder.exists():
        parser.error(f"{chosen.folder} is there already: give a new folder")
    count = 0
    try:
        for name, image in KINDS[chosen.kind]():
            path = chosen.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
            count += 1
    except ModuleNotFoundError as error:
        parser.error(f"{error.name} is not installed: it is where these images come from")
    print(f"{count:,} images in {chosen.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
