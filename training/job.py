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
from contract.errors import KernelscopeError
from contract.images import Fit
from training import calibrate, checkpoint, data, evaluate, export, fit, layers, machine, report, sources, unknown
from training.fit import Options
from training.progress import Row, counting
from training.recipes import Recipe

_NAMED: Final = 3
"""How many skipped pictures are named before they are only counted."""


@dataclass(frozen=True)
class Job:
    """What to train, on what, and where to publish it.

    Attributes:
        recipe: the recipe.
        source: where the labelled pictures are; see `data.load`.
        output: the repository to publish into.
        run: the folder for checkpoints and logs.
        name: the model's name.
        size: height and width to bring pictures to; the data's own where None.
        fit: how a picture of another shape takes that size.
        validation_fraction: how much of the training pictures is held out.
        options: what differs from the recipe.
        resume: whether to go on with the run in `run`.
        command: what a person typed, for the card.
        unknown: a folder of pictures of what the model is to be unsure of, beside those that are made.
    """

    recipe: Recipe
    source: str
    output: Path
    run: Path
    name: str
    size: tuple[int, int] | None
    fit: Fit
    validation_fraction: float
    options: Options
    resume: bool
    command: str
    unknown: Path | None = None


def run(job: Job, console: Console) -> bundle.Bundle:
    """Do the job; returns the published bundle. Raises what its steps raise; nothing is published then."""
    with counting(console, "reading pictures") as progress:
        pictures = data.load(
            job.source,
            size=job.size,
            fit=job.fit,
            validation_fraction=job.validation_fraction,
            progress=progress,
        )
    name = job.name
    other = unknown.read(job.unknown, pictures.size, job.fit) if job.unknown else None
    _announce(job, pictures, console)
    with repository.staging(job.output, name):
        pass  # a repository that cannot be written to is better known now than after the training
    trained = fit.fit(job.recipe, pictures, job.options, job.run, resume=job.resume, console=console)

    export.require_tensorflow()
    network, classes = job.recipe.network, len(pictures.labels)
    reference = export.in_form(network, trained.model, classes, for_export=False)
    held_out = pictures.validation
    temperature = calibrate.temperature(fit.predict(reference, held_out.images), held_out.labels)
    doubt = unknown.doubt(lambda images: fit.predict(reference, images), temperature, held_out, other)
    proto = export.convert(export.in_form(network, trained.model, classes, for_export=True), temperature)
    card = bundle.Card(
        name=name,
        labels=pictures.labels,
        height=pictures.size[0],
        width=pictures.size[1],
        fit=job.fit,
        temperature=temperature,
        unsure_below=doubt.threshold,
        data=pictures.describe(),
        training={
            "recipe": job.recipe.name,
            "command": job.command,
            "seed": job.options.seed,
            "epochs": trained.history[-1]["epoch"],
            "batch_size": trained.batch_size,
            **_lessons(job.options.teacher),
            **_weights(trained, pictures.labels),
            "seconds": round(trained.seconds, 1),
            **trained.origin,
            "versions": {
                **machine.versions(),
                **trained.origin["versions"],
            },  # what exports may not be where it trained
        },
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    try:
        made = _publish(job, name, card, proto, reference, doubt, pictures, trained.history, console)
    except OSError as error:
        raise KernelscopeError(
            f"{error.filename or job.output}: {error.strerror or error}; the trained network is kept in {job.run}: "
            "repeat the command with --resume to publish it"
        ) from None
    (job.run / checkpoint.PUBLISHED).write_text(f"{made.folder}\n")
    return made


def _lessons(teacher: bundle.Bundle | None) -> dict[str, str]:
    if teacher is None:
        return {}
    card = teacher.card
    accuracy = f", {card.accuracy['accuracy']:.2%}" if "accuracy" in card.accuracy else ""
    facts = f"{card.training.get('recipe', card.name)}, {card.cost.get('dtype', 'of unknown type')}{accuracy}"
    return {"teacher": f"{facts}, sha256:{sources.sha256(teacher.model)}"}


def _weights(trained: fit.Trained, labels: tuple[str, ...]) -> dict[str, dict[str, float]]:
    if trained.class_weights is None:
        return {}
    weights = trained.class_weights.tolist()
    return {"class_weights": {label: round(weight, 3) for label, weight in zip(labels, weights, strict=True)}}


def _publish(
    job: Job,
    name: str,
    card: bundle.Card,
    proto: onnx.ModelProto,
    reference: keras.Model,
    doubt: unknown.Doubt,
    pictures: data.Dataset,
    history: list[Row],
    console: Console,
) -> bundle.Bundle:
    """Write the bundle, check and score it, and give it a version."""
    held_out = pictures.validation
    with repository.staging(job.output, name) as staged:
        draft = export.write(proto, card, staged)
        table = layers.table(reference)
        cost = {
            "parameters": reference.count_params(),
            "multiply_adds": sum(layer.multiply_adds for layer in table),
            "dtype": "float32",
            "hardware": machine.hardware(),
            "parity": export.check_parity(draft, reference, held_out.images),
            "latency_ms": round(evaluate.latency(draft), 2),
            "pictures_per_second": round(evaluate.throughput(draft)),
            "layers": [layer.describe() for layer in table],
        }
        split, of = (pictures.test, "test") if pictures.test else (held_out, "validation")
        with counting(console, f"the {of} split") as progress:
            score = evaluate.evaluate(draft, split, of, progress)
        card = dataclasses.replace(card, cost=cost, accuracy={**score.describe(), "unsure": doubt.describe()})
        made = export.write(proto, card, staged)
        report.write(made, score, split.images, history)
        return bundle.read(repository.publish(staged))


def _announce(job: Job, pictures: data.Dataset, console: Console) -> None:
    if keras.backend.backend() != "tensorflow":
        console.print(
            f"Keras runs on {keras.backend.backend()}: the run will end with a checkpoint, to be exported with "
            "KERAS_BACKEND=tensorflow and --resume",
            highlight=False,
            soft_wrap=True,
        )
    for line in pictures.skipped[:_NAMED]:
        console.print(f"[yellow]skipped[/] {escape(line)}", highlight=False, soft_wrap=True)
    if len(pictures.skipped) > _NAMED:
        console.print(f"[yellow]skipped[/] {len(pictures.skipped)} pictures in all", highlight=False)
    height, width = pictures.size
    tests = f", {len(pictures.test):,} to test" if pictures.test else ""
    console.print(
        f"{len(pictures.train):,} pictures of {width}x{height} in {len(pictures.labels)} classes to train on, "
        f"{len(pictures.validation):,} held out{tests}; recipe {job.recipe.name}, {job.options.precision}",
        highlight=False,
        soft_wrap=True,
    )
