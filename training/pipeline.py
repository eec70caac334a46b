"""The training pipeline, step by step: load, train, calibrate, export, publish."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import keras
import onnx
from rich.console import Console

from contract import repository
from contract.bundle import Bundle
from contract.card import Card, Cost, Training
from contract.errors import KernelscopeError
from contract.preprocessing import ResizeMode
from training import provenance
from training.data import dataset as datasets
from training.data import sources
from training.data.announcement import announce
from training.data.dataset import Dataset
from training.evaluation import calibrate, ood
from training.export import to_onnx
from training.export.publish import publish
from training.loop import checkpoint, trainer
from training.loop.progress import counting
from training.networks import layer_table
from training.recipes import Recipe


@dataclass(frozen=True)
class PipelineOptions:
    """What to train, on what, and where to publish it.

    Attributes:
        recipe: the recipe.
        source: where the labelled images are; see `training.data.dataset.load`.
        output: the repository to publish into.
        run: the folder for checkpoints and logs.
        name: the model's name.
        size: height and width to bring images to; their own where None.
        resize_mode: how an image of another shape is brought to that size.
        validation_fraction: fraction of the training images held out for validation.
        training: what differs from the recipe.
        resume: whether to continue the run in `run`.
        command: the command line, for the card.
        ood_folder: a folder of out-of-distribution images for the rejection threshold, beside the synthetic ones.
    """

    recipe: Recipe
    source: str
    output: Path
    run: Path
    name: str
    size: tuple[int, int] | None
    resize_mode: ResizeMode
    validation_fraction: float
    training: trainer.Options
    resume: bool
    command: str
    ood_folder: Path | None = None


def run(options: PipelineOptions, console: Console) -> Bundle:
    """Train a model and publish it; return the published bundle.

    Raises:
        ExportError: Keras runs on another backend than TensorFlow; the trained network is in the checkpoint.
        KernelscopeError: a step failed; nothing is published.
    """
    exports = to_onnx.can_export()
    with counting(console, "reading images") as progress:
        dataset = datasets.load(
            options.source,
            size=options.size,
            resize_mode=options.resize_mode,
            validation_fraction=options.validation_fraction,
            progress=progress,
        )
    other = ood.read_folder(options.ood_folder, dataset.size, options.resize_mode) if options.ood_folder else None
    _announce(options, dataset, console, exports=exports)
    with repository.staging(options.output, options.name):
        pass  # a repository that cannot be written to is an error before the training, not after it
    trained = trainer.fit(
        options.recipe, dataset, options.training, options.run, resume=options.resume, console=console
    )
    if not exports:
        raise to_onnx.not_exported()
    proto, reference, temperature = _export(options.recipe, trained, dataset)
    card = Card(
        name=options.name,
        labels=dataset.labels,
        height=dataset.size[0],
        width=dataset.size[1],
        resize_mode=options.resize_mode,
        temperature=temperature,
        data=dataset.describe(),
        training=_describe_training(options, trained, dataset.labels),
        cost=_describe_cost(reference),
    )
    try:
        bundle = publish(
            proto, card, dataset, options.output, console, reference=reference, other=other, history=trained.history
        )
    except OSError as error:
        raise KernelscopeError(
            f"{error.filename or options.output}: {error.strerror or error}; the trained network is kept in "
            f"{options.run}: repeat the command with --resume to publish it"
        ) from None
    (options.run / checkpoint.PUBLISHED).write_text(f"{bundle.folder}\n")
    return bundle


def _export(recipe: Recipe, trained: trainer.Trained, dataset: Dataset) -> tuple[onnx.ModelProto, keras.Model, float]:
    """Return the exported model, the trained network in float32, and the temperature of both."""
    network, classes, validation = recipe.network, len(dataset.labels), dataset.validation
    reference = to_onnx.in_form(network, trained.model, classes, for_export=False)
    temperature = calibrate.temperature(trainer.predict(reference, validation.images), validation.targets)
    proto = to_onnx.convert(to_onnx.in_form(network, trained.model, classes, for_export=True), temperature)
    return proto, reference, temperature


def _describe_training(options: PipelineOptions, trained: trainer.Trained, labels: tuple[str, ...]) -> Training:
    weights = [] if trained.class_weights is None else trained.class_weights.tolist()
    teacher, initial = options.training.teacher, options.training.initial
    return Training(
        recipe=options.recipe.name,
        command=options.command,
        seed=options.training.seed,
        epochs=int(trained.history[-1]["epoch"]),
        batch_size=trained.batch_size,
        teacher=_describe_origin(teacher) if teacher else None,
        initial=_describe_origin(initial) if initial else None,
        class_weights={label: round(weight, 3) for label, weight in zip(labels, weights, strict=bool(weights))},
        seconds=round(trained.seconds, 1),
        precision=trained.origin["precision"],
        hardware=trained.origin["hardware"],
        commit=trained.origin["commit"],
        # the export may run on another machine than the training
        versions={**provenance.versions(), **trained.origin["versions"]},
    )


def _describe_origin(bundle: Bundle) -> str:
    card = bundle.card
    accuracy = "" if card.accuracy.accuracy is None else f", {card.accuracy.accuracy:.2%}"
    facts = f"{card.training.recipe or card.name}, {card.cost.dtype or 'of unknown type'}{accuracy}"
    return f"{facts}, sha256:{sources.sha256(bundle.model)}"


def _describe_cost(reference: keras.Model) -> Cost:
    layers = tuple(layer_table.table(reference))
    return Cost(
        parameters=reference.count_params(),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        dtype="float32",
        layers=layers,
    )


def _announce(options: PipelineOptions, dataset: Dataset, console: Console, *, exports: bool) -> None:
    if not exports:
        console.print(
            f"Keras runs on {keras.backend.backend()}: the run will end with a checkpoint, to be exported with "
            "KERAS_BACKEND=tensorflow and --resume",
            highlight=False,
            soft_wrap=True,
        )
    if dataset.summary:
        announce(dataset.summary, console)
    height, width = dataset.size
    tests = f", {len(dataset.test):,} to test" if dataset.test else ""
    console.print(
        f"{len(dataset.train):,} images of {width}x{height} in {len(dataset.labels)} classes to train on, "
        f"{len(dataset.validation):,} held out{tests}; recipe {options.recipe.name}, {options.training.precision}",
        highlight=False,
        soft_wrap=True,
    )
