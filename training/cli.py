"""`kernelscope train`, `evaluate`, `compare` and `quantize`."""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from contract import repository
from contract.card import Accuracy
from contract.errors import UsageError
from contract.typed_json import encode
from training import parsers

if TYPE_CHECKING:
    from rich.console import Console

    from contract.bundle import Bundle
    from training.evaluation.compare import Comparison

_BACKENDS = ("tensorflow", "jax", "torch")


def train(arguments: list[str]) -> int:
    """Train, export and publish a model; return the exit code."""
    chosen = parsers.train().parse_args(arguments)

    from rich.console import Console
    from rich.markup import escape

    from contract.bundle import read

    _check_backend()
    with _quiet():
        from training import pipeline, recipes, tasks
        from training.loop import trainer

    recipe = None if chosen.recipe == recipes.AUTO else recipes.find(chosen.recipe)
    console = Console()
    name = repository.check_name(chosen.name or tasks.model_name(chosen.data))
    options = trainer.Options(
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        seed=chosen.seed,
        time_budget=chosen.time_budget,
        precision=None if chosen.precision == "auto" else chosen.precision,
        patience=chosen.patience,
        teacher=read(chosen.teacher) if chosen.teacher else None,
        initial=read(chosen.initial) if chosen.initial else None,
        executor=None if chosen.executor == "auto" else chosen.executor,
    )
    try:
        bundle = pipeline.run(
            pipeline.PipelineOptions(
                recipe=recipe,
                source=chosen.data,
                output=chosen.output,
                run=chosen.run,
                name=name,
                size=chosen.size,
                resize_mode=chosen.resize_mode,
                validation_fraction=chosen.validation_fraction,
                training=options,
                resume=chosen.resume,
                ood_folder=chosen.unknown,
                backbone=chosen.backbone,
                flip=not chosen.no_flip,
                command=_command("train", arguments),
            ),
            console,
        )
    except trainer.Interrupted as interruption:
        again = shlex.join(["kernelscope", "train", *(word for word in arguments if word != "--resume"), "--resume"])
        console.print(f"\n{interruption}; to continue:\n  {again}", highlight=False, markup=False, soft_wrap=True)
        return interruption.exit_code
    accuracy = bundle.card.accuracy
    _warn_of_chance(console, accuracy, len(bundle.card.labels))
    console.print(
        f"[green]{accuracy.accuracy:.2%}[/] of {accuracy.images:,} {accuracy.split} images classified correctly; "
        f"calibration error {accuracy.calibration_error:.2%}; {bundle.card.cost.latency_ms} ms an image\n"
        f"published as {escape(str(bundle.folder))}; to serve it:\n"
        f"  kernelscope serve --models {escape(shlex.quote(str(chosen.output)))}",
        highlight=False,
        soft_wrap=True,
    )
    if chosen.features:
        words = [str(bundle.folder), "--data", chosen.data, "--minutes", f"{chosen.features:g}"]
        return features([*words, *(["--keep-examples"] if chosen.keep_examples else [])])
    return 0


def evaluate(arguments: list[str]) -> int:
    """Score a bundle on labelled images; return the exit code."""
    chosen = parsers.evaluate().parse_args(arguments)

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from contract.bundle import read
    from training.data import announcement
    from training.data import dataset as datasets
    from training.evaluation import corruptions, evaluate
    from training.loop.progress import counting

    bundle = read(chosen.bundle)
    console = Console()
    with counting(Console(stderr=True), "reading images") as progress:
        dataset = datasets.load_for(bundle.card, chosen.data, progress)
    name, split = datasets.choose(dataset, chosen.split, bundle.card)
    with counting(Console(stderr=True), f"the {name} split") as progress:
        score = evaluate.evaluate(bundle, split, name, progress)
    accuracy = score.describe()
    if chosen.corruptions:
        with counting(Console(stderr=True), "corrupted images") as progress:
            accuracy = replace(accuracy, corruptions=corruptions.measure(bundle, split, name, progress=progress))
    if chosen.json:
        print(json.dumps(encode(accuracy)))
        return 0
    _warn_of_chance(console, accuracy, len(bundle.card.labels))
    low, high = score.interval
    console.print(
        f"[bold]{score.accuracy:.2%}[/] of {score.images:,} images of the {name} split classified correctly "
        f"(95 % interval {low:.2%} to {high:.2%})\n"
        f"calibration error {score.calibration_error:.2%} ({score.uncalibrated_error:.2%} uncalibrated), "
        f"cross-entropy {score.cross_entropy:.4f}",
        highlight=False,
        soft_wrap=True,
    )
    if dataset.summary:
        announcement.announce_reading(dataset.summary, console)
    if datasets.trained_on(bundle.card, dataset) and name in ("train", "all"):
        console.print("[yellow]the bundle was trained on all or most of these images[/]", highlight=False)
    table = Table("class", "recall", "most often confused with", box=None)
    for row, label in enumerate(bundle.card.labels):
        mistakes = score.confusion[row].copy()
        mistakes[row] = 0
        worst = mistakes.argmax()
        confused = f"{escape(bundle.card.labels[worst])} ({mistakes[worst]})" if mistakes[worst] else ""
        recall = f"{score.per_class[label]:.1%}" if label in score.per_class else "no images"
        table.add_row(escape(label), recall, confused)
    console.print(table)
    if accuracy.corruptions:
        table = Table(f"{accuracy.corruptions.images:,} images", "accuracy", box=None)
        for kind, fraction in accuracy.corruptions.accuracy.items():
            table.add_row(kind, f"{fraction:.1%}")
        console.print(table)
    return 0


def compare(arguments: list[str]) -> int:
    """Compare two bundles on the same images; return the exit code."""
    chosen = parsers.compare().parse_args(arguments)

    from rich.console import Console

    from contract.bundle import read
    from training.evaluation import compare
    from training.evaluation.shared_split import shared_split
    from training.loop.progress import counting

    bundles = read(chosen.first), read(chosen.second)
    with counting(Console(stderr=True), "reading images") as progress:
        name, splits = shared_split(*bundles, chosen.data, chosen.split, progress)
    comparison = compare.compare(*bundles, splits, name)
    if chosen.json:
        print(json.dumps(comparison.describe()))
    else:
        _print_comparison(bundles, comparison, Console(highlight=False))
    return 0


def _print_comparison(bundles: tuple[Bundle, Bundle], comparison: Comparison, console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    names = (f"{bundle.folder.absolute().parent.name} {bundle.version or bundle.folder.name}" for bundle in bundles)
    table = Table("", *names, box=None)
    intervals = [(score.accuracy, *score.interval) for score in comparison.scores]
    table.add_row("accuracy", *(f"{accuracy:.2%} ({low:.2%} to {high:.2%})" for accuracy, low, high in intervals))
    table.add_row("only this one correct", *(f"{count:,} images" for count in comparison.only))
    table.add_row("calibration error", *(f"{score.calibration_error:.2%}" for score in comparison.scores))
    table.add_row("one image, one thread", *(f"{value:.2f} ms" for value in comparison.speed.milliseconds))
    table.add_row("model size", *(f"{size / 1e6:.2f} MB" for size in comparison.size))
    table.add_row("type", *(escape(bundle.card.cost.dtype or "") for bundle in bundles))
    console.print(table)
    difference, low, high = comparison.difference
    is_significant = "significant at 5 %" if comparison.p_value < 0.05 else "not significant at 5 %"
    console.print(
        f"on {comparison.scores[0].images:,} images of the {comparison.scores[0].split} split, the second minus the "
        f"first: {100 * difference:+.2f} points of accuracy (95 % interval {100 * low:+.2f} to {100 * high:+.2f}; "
        f"McNemar's exact test: p = {comparison.p_value:.2g}, {is_significant}); the second is "
        f"{comparison.speed.ratio:.2f} times as fast "
        f"({comparison.speed.spread[0]:.2f} to {comparison.speed.spread[1]:.2f})",
        soft_wrap=True,
    )


def quantize(arguments: list[str]) -> int:
    """Publish the int8 form of a bundle, if accuracy and speed hold; return the exit code."""
    chosen = parsers.quantize().parse_args(arguments)

    from rich.console import Console

    from contract.bundle import read

    _check_backend()
    with _quiet():
        from training.export import quantize

    console = Console()
    bundle = quantize.run(
        read(chosen.bundle),
        chosen.data,
        chosen.output,
        console,
        chosen.unknown,
        command=_command("quantize", arguments),
    )
    _print_published(console, bundle)
    return 0


def interpolate(arguments: list[str]) -> int:
    """Publish the best mixture of a model and what it was fine-tuned to; return the exit code."""
    chosen = parsers.interpolate().parse_args(arguments)

    from rich.console import Console

    from contract.bundle import read

    _check_backend()
    with _quiet():
        from training.export import interpolate

    console = Console()
    bundle = interpolate.run(
        read(chosen.base),
        read(chosen.tuned),
        chosen.data,
        chosen.output,
        console,
        chosen.unknown,
        quality=chosen.quality,
        command=_command("interpolate", arguments),
    )
    _print_published(console, bundle)
    return 0


def features(arguments: list[str]) -> int:
    """Find what a bundle's channels respond to; return the exit code."""
    chosen = parsers.features().parse_args(arguments)

    from rich.console import Console

    from contract.bundle import read

    with _quiet():
        from training.data import dataset
        from training.export import features as making
        from training.loop.progress import counting

    console, bundle = Console(), read(chosen.bundle)
    with counting(console, "reading images") as progress:
        data = dataset.load_for(bundle.card, chosen.data, progress)
    if not dataset.trained_on(bundle.card, data):
        raise UsageError(f"{chosen.data} is not what {bundle.folder} was trained on ({bundle.card.data.name})")
    folder = making.make(
        bundle,
        data,
        console,
        seconds=60 * chosen.minutes,
        steps=chosen.steps,
        most_images=chosen.images,
        keep_examples=chosen.keep_examples,
    )
    console.print(f"written: {folder}", highlight=False, soft_wrap=True)
    return 0


def _print_published(console: Console, bundle: Bundle) -> None:
    from rich.markup import escape

    accuracy, cost = bundle.card.accuracy, bundle.card.cost
    _warn_of_chance(console, accuracy, len(bundle.card.labels))
    console.print(
        f"[green]{accuracy.accuracy:.2%}[/] of {accuracy.images:,} {accuracy.split} images classified correctly; "
        f"{cost.latency_ms} ms an image, {cost.bytes:,} bytes\n"
        f"published as {escape(str(bundle.folder))}",
        highlight=False,
        soft_wrap=True,
    )


def _warn_of_chance(console: Console, accuracy: Accuracy, classes: int) -> None:
    from training.export import report

    warning = report.chance(accuracy, classes)
    if warning:
        console.print(f"[yellow]{warning}[/]", highlight=False, soft_wrap=True)


def _command(name: str, arguments: list[str]) -> str:
    """Return the command line for the card, which is published: without the folders of this machine."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in arguments]
    return shlex.join(["kernelscope", name, *words]).encode(errors="replace").decode()  # file names may be any bytes


def _check_backend() -> None:
    """Raise `UsageError` if `KERAS_BACKEND` names an unknown backend, or one that is not installed."""
    name = os.environ.get("KERAS_BACKEND", "")
    if name and name not in _BACKENDS:
        raise UsageError(f"KERAS_BACKEND is {name!r}: set it to one of {', '.join(_BACKENDS)}")
    if name and find_spec(name) is None:
        raise UsageError(f"KERAS_BACKEND is {name}, which is not installed: install it, or set another backend")
    if name == "jax":
        _check_jax(os.environ.get("JAX_PLATFORMS", ""))


def _check_jax(platforms: str) -> None:
    """Raise `UsageError` if JAX lacks the platform that it must have; say so if it could have had a GPU.

    Args:
        platforms: those that JAX must have, the first one to train on; empty for whatever there is.
    """
    if platforms and "cpu" not in platforms.split(","):
        raise UsageError(f"JAX_PLATFORMS is {platforms}: add cpu, which the export is compared on: {platforms},cpu")
    with _quiet():  # without a driver, JAX's plugin prints a traceback
        import jax  # only where it is the backend

        try:
            backend = jax.default_backend()
        except RuntimeError:
            backend = ""
    if platforms and backend in {"", "cpu"} and not platforms.startswith("cpu"):
        raise UsageError(
            f"JAX_PLATFORMS is {platforms}, but JAX finds no such device: for cuda, nvidia-smi must list a GPU and "
            "a driver of 580 or newer, and jax[cuda13] must be there; leave JAX_PLATFORMS out to train on the CPU"
        )
    if not platforms and backend == "cpu" and any(find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        print("JAX finds no GPU, though its plugin for CUDA is installed: this trains on the CPU", file=sys.stderr)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what TensorFlow's libraries print while they load; if loading fails, print it.

    They print before their logging can be configured, so the file descriptor itself is redirected.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides later messages
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except BaseException:
            aside.seek(0)
            os.write(terminal, aside.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
