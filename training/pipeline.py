"""The training pipeline, step by step: load, train, calibrate, export, publish."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import keras
import onnx
from rich.console import Console

from contract import repository
from contract.bundle import Bundle
from contract.card import Backbone, Card, Cost, Training
from contract.errors import KernelscopeError
from contract.preprocessing import Pixels, ResizeMode
from training import backbones, provenance, recipes
from training.data import dataset as datasets
from training.data import sources
from training.data.announcement import announce
from training.data.dataset import Dataset
from training.evaluation import calibrate, ood
from training.export import quantize, to_onnx
from training.export.publish import publish
from training.loop import checkpoint, trainer
from training.loop.progress import counting
from training.networks import layer_table
from training.networks.pretrained import Pretrained
from training.recipes import Recipe

_FEW: Final = 100
"""With fewer validation images, the rejection threshold is not fitted on them alone: few of them are misclassified."""


@dataclass(frozen=True)
class PipelineOptions:
    """What to train, on what, and where to publish it.

    Attributes:
        recipe: the recipe; None: `recipes.choose` chooses it by the size of the images.
        source: where the labelled images are; see `training.data.dataset.load`.
        output: the repository to publish into.
        run: the folder for checkpoints and logs; None: `runs/<name>-<recipe>`.
        name: the model's name.
        size: height and width to bring images to; None: those of the recipe, or the images' own.
        resize_mode: how an image of another shape is brought to that size.
        validation_fraction: fraction of the training images held out for validation.
        training: what differs from the recipe.
        resume: whether to continue the run in `run`.
        command: the command line, for the card.
        ood_folder: a folder of out-of-distribution images for the rejection threshold, beside the synthetic ones.
        backbone: the name of the pre-trained network; None: that of the recipe.
        flip: whether images may be mirrored.
    """

    recipe: Recipe | None
    source: str
    output: Path
    run: Path | None
    name: str
    size: tuple[int, int] | None
    resize_mode: ResizeMode
    validation_fraction: float
    training: trainer.Options
    resume: bool
    command: str
    ood_folder: Path | None = None
    backbone: str | None = None
    flip: bool = True


def run(options: PipelineOptions, console: Console) -> Bundle:
    """Train a model and publish it; return the published bundle.

    Raises:
        ExportError: TensorFlow is not installed; the trained network is in the checkpoint.
        KernelscopeError: a step failed; nothing is published.
    """
    exports = to_onnx.can_export()
    with counting(console, "reading images") as progress:
        dataset = datasets.load(
            options.source,
            size=options.size or partial(recipes.input_size, options.recipe.name if options.recipe else recipes.AUTO),
            resize_mode=options.resize_mode,
            validation_fraction=options.validation_fraction,
            progress=progress,
        )
    other = ood.read_folder(options.ood_folder, dataset.size, options.resize_mode) if options.ood_folder else None
    recipe, reason = _recipe(options, dataset)
    folder = options.run or Path("runs") / f"{options.name}-{recipe.name}"
    _announce(recipe, reason, options, dataset, console, exports=exports)
    with repository.staging(options.output, options.name):
        pass  # a repository that cannot be written to is an error before the training, not after it
    trained = trainer.fit(recipe, dataset, options.training, folder, resume=options.resume, console=console)
    if not exports:
        raise to_onnx.not_exported()
    with to_onnx.exact():
        bundle = _publish(recipe, trained, dataset, other, options, folder, console)
    if not recipe.makes_int8:
        return bundle
    try:
        return quantize.publish_int8(bundle, dataset, options.output, console, other, command=options.command)
    except (quantize.NotWorthIt, OSError) as error:
        console.print(f"the float32 model stays the newest: {error}", highlight=False, markup=False, soft_wrap=True)
        return bundle


def _publish(
    recipe: Recipe,
    trained: trainer.Trained,
    dataset: Dataset,
    other: Pixels | None,
    options: PipelineOptions,
    folder: Path,
    console: Console,
) -> Bundle:
    """Export a trained network and publish it as a float32 bundle."""
    exported = _export(recipe, trained, options, dataset)
    card = Card(
        name=options.name,
        labels=dataset.labels,
        height=dataset.size[0],
        width=dataset.size[1],
        resize_mode=options.resize_mode,
        temperature=exported.calibration.temperature,
        label_smoothing=exported.calibration.label_smoothing,
        data=dataset.describe(),
        training=_describe_training(options, recipe, trained, dataset.labels),
        cost=_describe_cost(exported.reference),
    )
    try:
        bundle = publish(
            exported.proto,
            card,
            dataset,
            options.output,
            console,
            reference=exported.reference,
            held_out=exported.calibration.held_out,
            other=other,
            history=trained.history,
        )
    except OSError as error:
        raise KernelscopeError(
            f"{error.filename or options.output}: {error.strerror or error}; the trained network is kept in "
            f"{folder}: repeat the command with --resume to publish it"
        ) from None
    (folder / checkpoint.PUBLISHED).write_text(f"{bundle.folder}\n")
    return bundle


def _recipe(options: PipelineOptions, dataset: Dataset) -> tuple[Recipe, str]:
    """Return the recipe, and the reason for it if it was not given."""
    recipe, reason = (options.recipe, "") if options.recipe else recipes.choose(dataset.size)
    if not options.flip:
        recipe = recipe.unmirrored()
    return (recipe.on(options.backbone) if options.backbone else recipe), reason


@dataclass(frozen=True)
class _Calibration:
    """How logits become probabilities.

    Attributes:
        label_smoothing: what is taken back from them first; None for nothing.
        temperature: what they are divided by then.
        held_out: how confident the network is on images that it was not trained on; None: on the validation images
            alone.
    """

    label_smoothing: float | None
    temperature: float
    held_out: ood.Confidence | None


@dataclass(frozen=True)
class _Exported:
    """A trained network on its way into a bundle.

    Attributes:
        proto: the exported model.
        reference: the network in float32, which the model must agree with.
        calibration: of both.
    """

    proto: onnx.ModelProto
    reference: keras.Model
    calibration: _Calibration


def _export(recipe: Recipe, trained: trainer.Trained, options: PipelineOptions, dataset: Dataset) -> _Exported:
    network, classes = recipe.network, len(dataset.labels)
    reference = to_onnx.in_form(network, trained.model, classes, for_export=False)
    # a teacher's targets are not smoothed
    smoothing = None if options.training.teacher else recipe.label_smoothing or None
    fitted = _calibrate(recipe, smoothing, trained, reference, dataset)
    exported = to_onnx.in_form(network, trained.model, classes, for_export=True)
    return _Exported(to_onnx.convert(exported, fitted.temperature, fitted.label_smoothing), reference, fitted)


def _calibrate(
    recipe: Recipe, smoothing: float | None, trained: trainer.Trained, reference: keras.Model, dataset: Dataset
) -> _Calibration:
    """Fit the temperature, and choose the answers that the rejection threshold is fitted on.

    The temperature is fitted to what the best epoch was chosen by: the validation images as they are and, if the recipe
    wants that, as JPEG.

    A network that is as it started has the answers of the cross-validation that it started with, which are many. For
    one that was trained, only the validation images are left. A few of them are enough for the temperature, but not for
    the threshold: then that is fitted on the calibrated answers of the cross-validation.
    """
    start = trained.start
    if start is not None:
        temperature = calibrate.temperature(start.logits, start.targets)
        held_out = ood.Confidence.of(start.logits, start.targets, temperature)
        if not trained.best["step"]:
            return _Calibration(None, temperature, held_out)
    judges = dataset.validation.with_jpeg(recipe.validation_quality)
    logits = calibrate.unsmoothed(trainer.predict(reference, judges.images), smoothing)
    is_few = start is not None and len(dataset.validation) < _FEW
    return _Calibration(smoothing, calibrate.temperature(logits, judges.targets), held_out if is_few else None)


def _describe_training(
    options: PipelineOptions, recipe: Recipe, trained: trainer.Trained, labels: tuple[str, ...]
) -> Training:
    weights = [] if trained.class_weights is None else trained.class_weights.tolist()
    teacher, initial = options.training.teacher, options.training.initial
    return Training(
        recipe=recipe.name,
        command=options.command,
        seed=options.training.seed,
        epochs=int(trained.history[-1]["epoch"]),
        batch_size=trained.batch_size,
        backbone=_describe_backbone(recipe, trained),
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


def _describe_backbone(recipe: Recipe, trained: trainer.Trained) -> Backbone | None:
    if not isinstance(recipe.network, Pretrained) or trained.start is None:
        return None
    return Backbone(
        name=recipe.network.backbone,
        **backbones.find(recipe.network.backbone).origin.describe(),
        is_tuned=trained.best["step"] > 0,
        frozen_accuracy=round(trained.start.accuracy, 4),
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


def _announce(
    recipe: Recipe, reason: str, options: PipelineOptions, dataset: Dataset, console: Console, *, exports: bool
) -> None:
    if not exports:
        console.print(
            "TensorFlow, which the export needs, is not installed: the run will end with a checkpoint",
            highlight=False,
            soft_wrap=True,
        )
    if dataset.summary:
        announce(dataset.summary, console)
    height, width = dataset.size
    accelerator = provenance.accelerator()
    tests = f", {len(dataset.test):,} to test" if dataset.test else ""
    console.print(
        f"{len(dataset.train):,} images of {width}x{height} in {len(dataset.labels)} classes to train on, "
        f"{len(dataset.validation):,} held out{tests}; recipe {recipe.name}, "
        f"{trainer.precision_of(recipe, options.training)}" + (f", on {accelerator}" if accelerator else ""),
        highlight=False,
        soft_wrap=True,
    )
    if reason:
        console.print(f"recipe {recipe.name}: {reason}", highlight=False, soft_wrap=True)
