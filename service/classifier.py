"""A model in this process: images in, predictions out, without a server."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from contract import bundle, files, preprocessing, repository
from contract.bundle import Bundle
from contract.card import Card
from contract.errors import BundleNotFound, ImageError, UndecodableImage
from contract.preprocessing import Pixels
from service.inference.engine import Engine

ImageLike = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8]
"""A path, an encoded image, a PIL image, or RGB pixels: uint8 (H, W, 3)."""

BATCH: Final = 64
"""Images that are run at once."""


@dataclass(frozen=True)
class Answer:
    """One class: its name, its index, and its calibrated probability."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What is in one image.

    Attributes:
        label: the likeliest class.
        index: its index.
        probability: its calibrated probability.
        unsure: whether that is below the threshold on the model's card.
        top: every class, the likeliest first.
    """

    label: str
    index: int
    probability: float
    unsure: bool
    top: tuple[Answer, ...]


class Classifier:
    """A model that has been loaded and warmed.

    Args:
        source: its bundle.
        threads: onnxruntime's threads for one run; 0 for as many as there are cores.

    Raises:
        BundleError: the model does not load.

    Example:
        >>> classifier = load("cifar10")
        >>> classifier.predict("examples/cat.jpg").label
        'cat'
        >>> [prediction.label for prediction in classifier.predict(["examples/cat.jpg", "examples/cat.jpg"])]
        ['cat', 'cat']
    """

    def __init__(self, source: Bundle, threads: int = 0) -> None:
        self.bundle = source
        self._engine = Engine(source, threads)
        self._engine.warm(1)

    @property
    def card(self) -> Card:
        """What is known of the model."""
        return self.bundle.card

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of the outputs."""
        return self.card.labels

    @overload
    def predict(self, images: ImageLike) -> Prediction: ...  # type: ignore[overload-overlap]  # text is a path
    @overload
    def predict(self, images: Sequence[ImageLike]) -> list[Prediction]: ...
    def predict(self, images: ImageLike | Sequence[ImageLike]) -> Prediction | list[Prediction]:
        """What is in an image, or in each of a list of images.

        Args:
            images: a path, an encoded image (bytes), a PIL image, or RGB pixels, uint8 (H, W, 3); or a list of these.

        Raises:
            ImageError: one of them is not an image that can be read; the message names it.
            OSError: a file cannot be read.
            TypeError: something else than these.
        """
        if isinstance(images, str | os.PathLike | bytes | Image.Image | np.ndarray):
            return self.run([self.read(images)])[0]
        pending = iter(images)
        predictions: list[Prediction] = []
        while batch := [self.read(image) for image in islice(pending, BATCH)]:
            predictions.extend(self.run(batch))
        return predictions

    def read(self, image: ImageLike) -> Pixels:
        """An image as the model takes it, uint8 (height, width, 3). Raises what `predict` raises."""
        size = self.card.height, self.card.width, self.card.resize_mode
        if isinstance(image, bytes):
            return preprocessing.read(image, *size)
        if isinstance(image, Image.Image):
            return preprocessing.finish(image, *size)
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise UndecodableImage(f"an array must be uint8 (height, width, 3), not {image.dtype} {image.shape}")
            return preprocessing.resize(Image.fromarray(image), *size)
        if not isinstance(image, str | os.PathLike):
            raise TypeError(f"an image is a path, bytes, a PIL image or a uint8 array, not {type(image).__name__}")
        try:
            return preprocessing.read(files.contents(Path(image)), *size)
        except ImageError as error:
            raise type(error)(f"{os.fspath(image)}: {error}") from None

    def run(self, images: Sequence[Pixels]) -> list[Prediction]:
        """Predictions for images that `read` has made, all in one run."""
        return [self._prediction(row) for row in self._engine.run(np.stack(images)).tolist()]

    def _prediction(self, probabilities: list[float]) -> Prediction:
        ranked = sorted(range(len(probabilities)), key=probabilities.__getitem__, reverse=True)  # equals stay in order
        top = tuple(Answer(self.labels[index], index, probabilities[index]) for index in ranked)
        best = top[0]
        unsure = best.probability < self.card.unsure_below
        return Prediction(best.label, best.index, best.probability, unsure, top)


def load(source: str | os.PathLike[str] = "cifar10", *, version: int | None = None, threads: int = 0) -> Classifier:
    """Load a model.

    Args:
        source: a bundle's folder (models/cifar10/3), a model's folder (models/cifar10: its newest version), or the name
            of a model in the repository that `KERNELSCOPE_MODELS` names, else in the one that ships.
        version: which version of a model; the newest where None.
        threads: onnxruntime's threads for one run; 0 for as many as there are cores.

    Raises:
        BundleNotFound: there is no such folder, model or version.
        BundleError: it cannot be loaded.
    """
    folder = Path(source)
    if folder.is_dir() and (folder / bundle.MODEL).is_file():
        return Classifier(bundle.read(folder), threads)
    if folder.is_dir():
        return Classifier(repository.find(folder.absolute().parent, folder.absolute().name, version), threads)
    if len(folder.parts) > 1:
        raise BundleNotFound(f"{folder} is not a folder: give a bundle's or a model's folder, or a model's name")
    return Classifier(repository.find(models_folder(), str(source), version), threads)


def models_folder() -> Path:
    """The repository that is used where none is named: `KERNELSCOPE_MODELS`, else the one that ships."""
    return Path(os.environ.get("KERNELSCOPE_MODELS") or repository.shipped())


def batches(images: Iterable[Path], size: int = BATCH) -> Iterator[list[Path]]:
    """Paths in lists of `size`, the last one shorter."""
    pending = iter(images)
    while batch := list(islice(pending, size)):
        yield batch
