"""The whole training job, step by step: load, fit, calibrate, export, check, test, publish."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import keras
import onnx
from rich.console import Console
from rich.markup import escape

from contract import bundle, repository
from contract.card import Cost, Training
from contract.errors import KernelscopeError
from contract.preprocessing import ResizeMode
from training import provenance
from training.data import dataset, sources
from training.evaluation import calibrate, corruptions, evaluate, ood
from training.export import report, to_onnx
from training.loop import checkpoint, trainer
from training.loop.progress import Row, counting
from training.loop.trainer import Options
from training.networks import layer_table
from training.recipes import Recipe

_NAMED: Final = 3
"""How many skipped images are named before they are only counted."""


@dataclass(frozen=True)
class Job:
    """What to train, on what, and where to publish it.

    Attributes:
        recipe: the recipe.
        source: where the labelled images are; see `data.load`.
        output: the repository to publish into.
        run: the folder for checkpoints and logs.
        name: the model's name.
        size: height and width to bring images to; the data's own where None.
        resize_mode: how an image of another shape takes that size.
        validation_fraction: how much of the training images is held out.
        options: what differs from the recipe.
        resume: whether to go on with the run in `run`.
        command: what a person typed, for the card.
        unknown: a folder of images of what the model is to be unsure of, beside those that are made.
    """

    recipe: Recipe
    source: str
    output: Path
    run: Path
    name: str
    size: tuple[int, int] | None
    resize_mode: ResizeMode
    validation_fraction: float
    options: Options
    resume: bool
    command: str
    unknown: Path | None = None


def run(job: Job, console: Console) -> bundle.Bundle:
    """Do the job; returns the published bundle. Raises what its steps raise; nothing is published then."""
    with counting(console, "reading images") as progress:
        images = dataset.load(
            job.source,
            size=job.size,
            resize_mode=job.resize_mode,
            validation_fraction=job.validation_fraction,
            progress=progress,
        )
    name = job.name
    other = ood.read(job.unknown, images.size, job.resize_mode) if job.unknown else None
    _announce(job, images, console)
    with repository.staging(job.output, name):
        pass  # a repository that cannot be written to is better known now than after the training
    trained = trainer.fit(job.recipe, images, job.options, job.run, resume=job.resume, console=console)

    to_onnx.require_tensorflow()
    network, classes = job.recipe.network, len(images.labels)
    reference = to_onnx.in_form(network, trained.model, classes, for_export=False)
    held_out = images.validation
    temperature = calibrate.temperature(trainer.predict(reference, held_out.images), held_out.targets)
    doubt = ood.doubt(lambda images: trainer.predict(reference, images), temperature, held_out, other)
    proto = to_onnx.convert(to_onnx.in_form(network, trained.model, classes, for_export=True), temperature)
    card = bundle.Card(
        name=name,
        labels=images.labels,
        height=images.size[0],
        width=images.size[1],
        resize_mode=job.resize_mode,
        temperature=temperature,
        unsure_below=doubt.threshold,
        data=images.describe(),
        training=_training(job, trained, images.labels),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    try:
        made = _publish(job, name, card, proto, reference, doubt, images, trained.history, console)
    except OSError as error:
        raise KernelscopeError(
            f"{error.filename or job.output}: {error.strerror or error}; the trained network is kept in {job.run}: "
            "repeat the command with --resume to publish it"
        ) from None
    (job.run / checkpoint.PUBLISHED).write_text(f"{made.folder}\n")
    return made


def _training(job: Job, trained: trainer.Trained, labels: tuple[str, ...]) -> Training:
    weights = [] if trained.class_weights is None else trained.class_weights.tolist()
    return Training(
        recipe=job.recipe.name,
        command=job.command,
        seed=job.options.seed,
        epochs=int(trained.history[-1]["epoch"]),
        batch_size=trained.batch_size,
        teacher=_teacher(job.options.teacher) if job.options.teacher else None,
        class_weights={label: round(weight, 3) for label, weight in zip(labels, weights, strict=bool(weights))},
        seconds=round(trained.seconds, 1),
        precision=trained.origin["precision"],
        hardware=trained.origin["hardware"],
        commit=trained.origin["commit"],
        # the export may run on another machine than the training
        versions={**provenance.versions(), **trained.origin["versions"]},
    )


def _teacher(teacher: bundle.Bundle) -> str:
    card = teacher.card
    accuracy = "" if card.accuracy.accuracy is None else f", {card.accuracy.accuracy:.2%}"
    facts = f"{card.training.recipe or card.name}, {card.cost.dtype or 'of unknown type'}{accuracy}"
    return f"{facts}, sha256:{sources.sha256(teacher.model)}"


def _publish(
    job: Job,
    name: str,
    card: bundle.Card,
    proto: onnx.ModelProto,
    reference: keras.Model,
    doubt: ood.Doubt,
    images: dataset.Dataset,
    history: list[Row],
    console: Console,
) -> bundle.Bundle:
    """Write the bundle, check and score it, and give it a version."""
    held_out = images.validation
    with repository.staging(job.output, name) as staged:
        draft = to_onnx.write(proto, card, staged)
        table = layer_table.table(reference)
        cost = Cost(
            parameters=reference.count_params(),
            multiply_adds=sum(layer.multiply_adds for layer in table),
            dtype="float32",
            hardware=provenance.hardware(),
            parity=to_onnx.check_parity(draft, reference, held_out.images),
            latency_ms=round(evaluate.latency(draft), 2),
            images_per_second=round(evaluate.throughput(draft)),
            layers=tuple(table),
        )
        split, of = (images.test, "test") if images.test else (held_out, "validation")
        with counting(console, f"the {of} split") as progress:
            score = evaluate.evaluate(draft, split, of, progress)
        with counting(console, "corrupted images") as progress:
            corrupted = corruptions.measure(draft, split, of, progress=progress)
        accuracy = dataclasses.replace(score.describe(), unsure=doubt.describe(), corruptions=corrupted)
        card = dataclasses.replace(card, cost=cost, accuracy=accuracy)
        made = to_onnx.write(proto, card, staged)
        report.write(made, score, split.images, history)
        return bundle.read(repository.publish(staged))


def _announce(job: Job, images: dataset.Dataset, console: Console) -> None:
    if keras.backend.backend() != "tensorflow":
        console.print(
            f"Keras runs on {keras.backend.backend()}: the run will end with a checkpoint, to be exported with "
            "KERAS_BACKEND=tensorflow and --resume",
            highlight=False,
            soft_wrap=True,
        )
    for line in images.skipped[:_NAMED]:
        console.print(f"[yellow]skipped[/] {escape(line)}", highlight=False, soft_wrap=True)
    if len(images.skipped) > _NAMED:
        console.print(f"[yellow]skipped[/] {len(images.skipped)} images in all", highlight=False)
    height, width = images.size
    tests = f", {len(images.test):,} to test" if images.test else ""
    console.print(
        f"{len(images.train):,} images of {width}x{height} in {len(images.labels)} classes to train on, "
        f"{len(images.validation):,} held out{tests}; recipe {job.recipe.name}, {job.options.precision}",
        highlight=False,
        soft_wrap=True,
    )
