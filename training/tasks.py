"""The tasks of training as functions: what the public API calls, without a command line.

Each puts together the same functions as the subcommand of its name (`training.cli`).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from rich.console import Console

from contract import repository
from contract.bundle import Bundle
from training.data import dataset as datasets
from training.evaluation.compare import Comparison
from training.evaluation.evaluate import Evaluation
from training.evaluation.shared_split import shared_split


def train(
    source: str,
    *,
    recipe: str,
    output: Path,
    name: str | None,
    run: Path | None,
    epochs: int | None,
    time_budget: float | None,
    seed: int,
    resume: bool,
    progress: bool,
) -> Bundle:
    """Train a network on labelled images and publish it; see `kernelscope.train`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # as TensorFlow loads, it prints what concerns nobody
    from training import pipeline, recipes
    from training.data.dataset import VALIDATION_FRACTION
    from training.loop.trainer import Options

    options = pipeline.PipelineOptions(
        recipe=None if recipe == recipes.AUTO else recipes.find(recipe),
        source=source,
        output=output,
        run=run,
        name=repository.check_name(name or model_name(source)),
        size=None,
        resize_mode="crop",
        validation_fraction=VALIDATION_FRACTION,
        training=Options(epochs=epochs, time_budget=time_budget, seed=seed, precision=None),
        resume=resume,
        command=f"kernelscope.train({Path(source).name!r}, recipe={recipe!r}, seed={seed})",
    )
    return pipeline.run(options, Console(quiet=not progress))


def model_name(source: str) -> str:
    """A name for a model, from the name of its data: letters, digits and dashes."""
    return re.sub(r"[^A-Za-z0-9]+", "-", Path(os.path.abspath(source)).name.split(".")[0]).strip("-") or "images"


def evaluate(bundle: Bundle, source: str, split: str | None = None) -> Evaluation:
    """Score a bundle on labelled images; see `kernelscope.evaluate`."""
    from training.evaluation.evaluate import evaluate

    dataset = datasets.load_for(bundle.card, source)
    name, images = datasets.choose(dataset, split, bundle.card)
    return evaluate(bundle, images, name)


def compare(bundles: tuple[Bundle, Bundle], source: str, split: str | None = None) -> Comparison:
    """Compare two bundles on the same images; see `kernelscope.compare`."""
    from training.evaluation.compare import compare

    name, splits = shared_split(*bundles, source, split)
    return compare(*bundles, splits, name)


def quantize(bundle: Bundle, source: str, output: Path, *, progress: bool = True) -> Bundle:
    """Publish the int8 form of a bundle; see `kernelscope.quantize`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # as TensorFlow loads, it prints what concerns nobody
    from training.export import quantize

    command = f"kernelscope.quantize({bundle.folder.name!r}, {Path(source).name!r})"
    return quantize.run(bundle, source, output, Console(quiet=not progress), command=command)
