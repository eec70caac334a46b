"""`kernelscope train`, `evaluate`, `compare` and `quantize`."""

from __future__ import annotations

import json
import os
import re
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

_BACKENDS = ("tensorflow", "jax", "torch")


def train(arguments: list[str]) -> int:
    """Train, export and publish a model; returns the exit code."""
    chosen = parsers.train().parse_args(arguments)

    from rich.console import Console
    from rich.markup import escape

    from contract import bundle

    _check_backend()
    with _quiet():
        from training import pipeline, provenance, recipes
        from training.loop import trainer

    recipe = recipes.find(chosen.recipe)
    if chosen.no_flip:
        recipe = recipe.unmirrored()
    console = Console()
    name = repository.check_name(chosen.name or _word(chosen.data))
    run = chosen.run or Path("runs") / f"{name}-{recipe.name}"
    precision = provenance.best_precision() if chosen.precision == "auto" else chosen.precision
    options = trainer.Options(
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        seed=chosen.seed,
        time_budget=chosen.time_budget,
        precision=precision,
        patience=chosen.patience,
        teacher=bundle.read(chosen.teacher) if chosen.teacher else None,
    )
    try:
        made = pipeline.run(
            pipeline.Job(
                recipe=recipe,
                source=chosen.data,
                output=chosen.output,
                run=run,
                name=name,
                size=chosen.size,
                resize_mode=chosen.resize_mode,
                validation_fraction=chosen.validation_fraction,
                options=options,
                resume=chosen.resume,
                unknown=chosen.unknown,
                command=_command("train", arguments),
            ),
            console,
        )
    except trainer.Interrupted as stopped:
        again = shlex.join(["kernelscope", "train", *(a for a in arguments if a != "--resume"), "--resume"])
        console.print(f"\n{stopped}; to go on:\n  {again}", highlight=False, markup=False, soft_wrap=True)
        return stopped.exit_code
    _warn_of_chance(console, made.card.accuracy, len(made.card.labels))
    accuracy = made.card.accuracy
    console.print(
        f"[green]{accuracy.accuracy:.2%}[/] of {accuracy.images:,} {accuracy.split} images right; "
        f"calibration error {accuracy.calibration_error:.2%}; {made.card.cost.latency_ms} ms an image\n"
        f"published as {escape(str(made.folder))}; to serve it:\n"
        f"  kernelscope serve --models {escape(shlex.quote(str(chosen.output)))}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def evaluate(arguments: list[str]) -> int:
    """Score a bundle on labelled images; returns the exit code."""
    chosen = parsers.evaluate().parse_args(arguments)

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from contract import bundle
    from training.data import dataset
    from training.evaluation import corruptions, evaluate
    from training.loop.progress import counting

    of = bundle.read(chosen.bundle)
    console = Console()
    with counting(Console(stderr=True), "reading images") as progress:
        images = dataset.load_for(of.card, chosen.data, progress)
    name, split = dataset.choose(images, chosen.split, of.card)
    with counting(Console(stderr=True), f"the {name} split") as progress:
        score = evaluate.evaluate(of, split, name, progress)
    accuracy = score.describe()
    if chosen.corruptions:
        with counting(Console(stderr=True), "corrupted images") as progress:
            accuracy = replace(accuracy, corruptions=corruptions.measure(of, split, name, progress=progress))
    if chosen.json:
        print(json.dumps(encode(accuracy)))
        return 0
    _warn_of_chance(console, accuracy, len(of.card.labels))
    low, high = score.interval
    console.print(
        f"[bold]{score.accuracy:.2%}[/] of {score.images:,} images of the {name} split right "
        f"(95 % interval {low:.2%} to {high:.2%})\n"
        f"calibration error {score.calibration_error:.2%} (before the temperature {score.uncalibrated_error:.2%}), "
        f"cross-entropy {score.cross_entropy:.4f}",
        highlight=False,
        soft_wrap=True,
    )
    if images.skipped:
        console.print(
            f"[yellow]skipped[/] {len(images.skipped):,} images, such as {escape(images.skipped[0])}",
            highlight=False,
            soft_wrap=True,
        )
    if dataset.trained_on(of.card, images) and name in ("train", "all"):
        console.print("[yellow]it was trained on these images, or on most of them[/]", highlight=False)
    table = Table("class", "right", "most often taken for", box=None)
    for row, label in enumerate(of.card.labels):
        mistakes = score.confusion[row].copy()
        mistakes[row] = 0
        worst = mistakes.argmax()
        taken = f"{escape(of.card.labels[worst])} ({mistakes[worst]})" if mistakes[worst] else ""
        table.add_row(
            escape(label), f"{score.per_class[label]:.1%}" if label in score.per_class else "no images", taken
        )
    console.print(table)
    if accuracy.corruptions:
        table = Table(f"{accuracy.corruptions.images:,} images", "right", box=None)
        for kind, right in accuracy.corruptions.accuracy.items():
            table.add_row(kind, f"{right:.1%}")
        console.print(table)
    return 0


def compare(arguments: list[str]) -> int:
    """Set two bundles side by side on the same images; returns the exit code."""
    chosen = parsers.compare().parse_args(arguments)

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from contract import bundle
    from training.evaluation import compare
    from training.loop.progress import counting

    both = bundle.read(chosen.first), bundle.read(chosen.second)
    with counting(Console(stderr=True), "reading images") as progress:
        found = compare.compare(*both, chosen.data, chosen.split, progress)
    if chosen.json:
        print(json.dumps(found.describe()))
        return 0
    console = Console(highlight=False)
    table = Table("", *(f"{of.folder.absolute().parent.name} {of.version or of.folder.name}" for of in both), box=None)
    table.add_row(
        "right",
        *(
            f"{score.accuracy:.2%} ({low:.2%} to {high:.2%})"
            for score in found.scores
            for low, high in [score.interval]
        ),
    )
    table.add_row("right alone", *(f"{count:,} images" for count in found.only))
    table.add_row("calibration error", *(f"{score.calibration_error:.2%}" for score in found.scores))
    table.add_row("one image, one thread", *(f"{value:.2f} ms" for value in found.speed.milliseconds))
    table.add_row("model", *(f"{size / 1e6:.2f} MB" for size in found.size))
    table.add_row("type", *(escape(of.card.cost.dtype or "") for of in both))
    console.print(table)
    middle, low, high = found.difference
    sure = "more than chance" if found.p_value < 0.05 else "no more than chance may bring"
    console.print(
        f"on {found.scores[0].images:,} images of the {found.scores[0].split} split the second is right "
        f"{100 * middle:+.2f} points as often (95 % interval {100 * low:+.2f} to {100 * high:+.2f}; "
        f"McNemar's exact test: p = {found.p_value:.2g}, {sure}), and {found.speed.ratio:.2f} times as fast "
        f"({found.speed.spread[0]:.2f} to {found.speed.spread[1]:.2f})",
        soft_wrap=True,
    )
    return 0


def quantize(arguments: list[str]) -> int:
    """Publish the int8 form of a bundle, if it is worth it; returns the exit code."""
    chosen = parsers.quantize().parse_args(arguments)

    from rich.console import Console
    from rich.markup import escape

    from contract import bundle

    _check_backend()
    with _quiet():
        from training.export import quantize

    console = Console()
    made = quantize.run(
        bundle.read(chosen.bundle),
        chosen.data,
        chosen.output,
        console,
        chosen.unknown,
        command=_command("quantize", arguments),
    )
    _warn_of_chance(console, made.card.accuracy, len(made.card.labels))
    accuracy, cost = made.card.accuracy, made.card.cost
    console.print(
        f"[green]{accuracy.accuracy:.2%}[/] of {accuracy.images:,} {accuracy.split} images right; "
        f"{cost.latency_ms} ms an image, {cost.bytes:,} bytes\n"
        f"published as {escape(str(made.folder))}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def _warn_of_chance(console: Console, accuracy: Accuracy, classes: int) -> None:
    from training.export import report

    warning = report.chance(accuracy, classes)
    if warning:
        console.print(f"[yellow]{warning}[/]", highlight=False, soft_wrap=True)


def _command(name: str, arguments: list[str]) -> str:
    """What a person typed, for the card, which is published: it names the data, not the folders of this machine."""
    words = [Path(a).name if Path(a).is_absolute() else a for a in arguments]
    return shlex.join(["kernelscope", name, *words]).encode(errors="replace").decode()  # names of files are any bytes


def _word(source: str) -> str:
    """A name for a model, from where its data are."""
    return re.sub(r"[^A-Za-z0-9]+", "-", Path(os.path.abspath(source)).name.split(".")[0]).strip("-") or "images"


def _check_backend() -> None:
    """Raise `UsageError` where `KERAS_BACKEND` names what Keras does not know, or what is not installed."""
    name = os.environ.get("KERAS_BACKEND", "")
    if name and name not in _BACKENDS:
        raise UsageError(f"KERAS_BACKEND is {name!r}: set it to one of {', '.join(_BACKENDS)}")
    if name and find_spec(name) is None:
        raise UsageError(f"KERAS_BACKEND is {name}, which is not installed: install it, or set another backend")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the notes that TensorFlow's libraries write as they load off the terminal; where loading fails, show them.

    They come before its own logging can be turned down, so the stream itself is set aside.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # and later ones
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
