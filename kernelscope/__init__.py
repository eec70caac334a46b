"""Kernelscope trains image classifiers, serves them fast, and shows how they decide.

>>> import kernelscope
>>> classifier = kernelscope.load("cifar10")
>>> classifier.predict("examples/cat.jpg").label
'cat'

Importing this takes milliseconds: what a function needs is imported when it is called. `train`, `evaluate`, `compare`
and `quantize` need the packages of `kernelscope[train]`. Every error that is raised on purpose is a `KernelscopeError`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from contract.bundle import Bundle
    from contract.card import Card
    from contract.errors import KernelscopeError
    from service.classifier import Answer, Classifier, ImageLike, Prediction
    from training.evaluation.compare import Comparison
    from training.evaluation.evaluate import Evaluation

__all__ = [
    "Answer",
    "Bundle",
    "Card",
    "Classifier",
    "Comparison",
    "Evaluation",
    "ImageLike",
    "KernelscopeError",
    "Prediction",
    "compare",
    "evaluate",
    "import_model",
    "load",
    "quantize",
    "train",
]

_CLASSES: Final = {
    "Answer": "service.classifier",
    "Bundle": "contract.bundle",
    "Card": "contract.card",
    "Classifier": "service.classifier",
    "Comparison": "training.evaluation.compare",
    "Evaluation": "training.evaluation.evaluate",
    "ImageLike": "service.classifier",
    "KernelscopeError": "contract.errors",
    "Prediction": "service.classifier",
}
"""Where the classes are, which are imported when they are first asked for."""


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return getattr(importlib.import_module(_CLASSES[name]), name)
    raise AttributeError(f"module 'kernelscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


def load(source: str | os.PathLike[str] = "cifar10", *, version: int | None = None, threads: int = 0) -> Classifier:
    """Load a model into this process.

    Args:
        source: a bundle's folder (models/cifar10/3), a model's folder (models/cifar10: its newest version), or the name
            of a model in the repository that `KERNELSCOPE_MODELS` names, else in the one that ships.
        version: which version of a model; the newest where None.
        threads: onnxruntime's threads for one run; 0 for as many as there are cores.

    Raises:
        KernelscopeError: there is no such model or version, or it cannot be loaded.

    Example:
        >>> load("cifar10").labels[3]
        'cat'
    """
    from service.classifier import load

    return load(source, version=version, threads=threads)


def train(
    data: str | os.PathLike[str],
    *,
    recipe: str = "auto",
    output: str | os.PathLike[str] = "out",
    name: str | None = None,
    run: str | os.PathLike[str] | None = None,
    epochs: int | None = None,
    time_budget: float | None = None,
    seed: int = 0,
    resume: bool = False,
    progress: bool = True,
) -> Bundle:
    """Train a network on labelled images and publish it.

    Args:
        data: a folder with one folder for each class, an archive of one, a NumPy file, or `cifar10`.
        recipe: what to train and how; `auto` chooses by the size of the images.
        output: the repository to publish into.
        name: the model's name; by default from the name of the data.
        run: the folder for checkpoints and logs; by default `runs/<name>-<recipe>`.
        epochs: instead of the recipe's own.
        time_budget: seconds of training after which the run ends.
        seed: of all that is random.
        resume: continue the run in `run`.
        progress: print the progress.

    Raises:
        KernelscopeError: the data cannot be trained on, or a step failed; nothing is published then.

    Example:
        >>> bundle = train("pets/", output="models")  # doctest: +SKIP
        >>> Classifier(bundle).predict("cat.jpg").label  # doctest: +SKIP
        'cat'
    """
    from training import tasks

    return tasks.train(
        os.fspath(data),
        recipe=recipe,
        output=Path(output),
        name=name,
        run=None if run is None else Path(run),
        epochs=epochs,
        time_budget=time_budget,
        seed=seed,
        resume=resume,
        progress=progress,
    )


def evaluate(
    bundle: Bundle | Classifier | str | os.PathLike[str], data: str | os.PathLike[str], *, split: str | None = None
) -> Evaluation:
    """Score a bundle on labelled images.

    Args:
        bundle: a bundle, a classifier, or a bundle's folder.
        data: as `train` takes it.
        split: `train`, `validation`, `test` or `all`; by default the part that the bundle was not trained on.

    Returns:
        Accuracy with its interval, calibration error, recall of each class, confusion matrix, and every answer.

    Raises:
        KernelscopeError: the bundle or the data cannot be read, or the data have other classes.

    Example:
        >>> evaluate("models/cifar10/3", "examples/images.zip").accuracy  # doctest: +SKIP
        1.0
    """
    from training import tasks

    return tasks.evaluate(_bundle(bundle), os.fspath(data), split)


def compare(
    first: Bundle | Classifier | str | os.PathLike[str],
    second: Bundle | Classifier | str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    split: str | None = None,
) -> Comparison:
    """Compare two bundles on the same images: accuracy with a paired test, speed side by side, size.

    Args:
        first, second: as `evaluate` takes them; both of the same classes.
        data: as `train` takes it.
        split: as `evaluate` takes it.

    Raises:
        KernelscopeError: as `evaluate` does, or the two held out different images of these data.
    """
    from training import tasks

    return tasks.compare((_bundle(first), _bundle(second)), os.fspath(data), split)


def quantize(
    bundle: Bundle | Classifier | str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] = "out",
    progress: bool = True,
) -> Bundle:
    """Publish the int8 form of a bundle, if it is fast enough and loses next to no accuracy.

    Args:
        bundle: a float32 bundle, as `evaluate` takes it.
        data: the labelled images that it was trained on.
        output: the repository to publish into.
        progress: print the progress.

    Raises:
        KernelscopeError: it is int8 already, these are other data, or it is not worth it; nothing is published then.
    """
    from training import tasks

    return tasks.quantize(_bundle(bundle), os.fspath(data), Path(output), progress=progress)


def import_model(
    model: str | os.PathLike[str],
    labels: str | os.PathLike[str] | Sequence[str],
    *,
    name: str,
    output: str | os.PathLike[str] = "out",
    size: tuple[int, int] | None = None,
    layout: Literal["nchw", "nhwc"] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    value_range: tuple[float, float] | None = None,
    bgr: bool = False,
    output_name: str | None = None,
    resize_mode: Literal["crop", "squash", "letterbox"] = "crop",
    data: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Bundle:
    """Publish a classifier that PyTorch, Keras or Hugging Face exported to ONNX as a bundle.

    Args:
        model: the .onnx file.
        labels: a file of class names (one a line, or JSON), or the names, in the order of the model's output.
        name: the model's name in the repository.
        output: the repository to publish into.
        size: height and width in pixels, where the graph leaves them open.
        layout: the order of the input's axes, where the graph does not tell it.
        mean, std: by channel, of values in [0, 1], in the network's own order of channels.
        value_range: what black and white are to the network, instead of mean and deviation; 0 and 1 by default.
        bgr: whether the network takes blue first.
        output_name: the output with the answer, where several could be it.
        resize_mode: how an image of another shape is brought to size.
        data: labelled images that it was not trained on: one part calibrates, the other is scored.
        progress: print what was found.

    Raises:
        KernelscopeError: something does not fit, the answers differ from the original's, or the repository cannot be
            written to; nothing is published then.

    Example:
        >>> import_model("resnet18.onnx", ["cat", "dog"], name="pets")  # doctest: +SKIP
    """
    from rich.console import Console

    from training.importing import importer

    return importer.run(
        importer.Options(
            model=Path(model),
            labels=Path(labels) if isinstance(labels, str | os.PathLike) else tuple(labels),
            name=name,
            output=Path(output),
            size=size,
            layout=layout,
            mean=None if mean is None else tuple(mean),
            std=None if std is None else tuple(std),
            value_range=value_range,
            bgr=bgr,
            output_name=output_name,
            resize_mode=resize_mode,
            data=None if data is None else os.fspath(data),
            command=f"kernelscope.import_model({Path(model).name!r}, name={name!r})",
        ),
        Console(quiet=not progress),
    )


def _bundle(source: Bundle | Classifier | str | os.PathLike[str]) -> Bundle:
    from contract import bundle

    if isinstance(source, bundle.Bundle):
        return source
    if isinstance(source, str | os.PathLike):
        return bundle.read(Path(source))
    return source.bundle
