"""`kernelscope train`, `evaluate`, `compare` and `quantize`."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from contract import repository
from contract.errors import UsageError
from contract.images import FITS

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_BACKENDS = ("tensorflow", "jax", "torch")


def train(arguments: list[str]) -> int:
    """Train, export and publish a model; returns the exit code."""
    chosen = _train_parser().parse_args(arguments)

    from rich.console import Console
    from rich.markup import escape

    from contract import bundle

    _check_backend()
    with _quiet():
        from training import fit, job, machine, recipes

    recipe = recipes.find(chosen.recipe)
    if chosen.no_flip:
        recipe = recipe.unmirrored()
    console = Console()
    name = repository.check_name(chosen.name or _word(chosen.data))
    run = chosen.run or Path("runs") / f"{name}-{recipe.name}"
    precision = machine.best_precision() if chosen.precision == "auto" else chosen.precision
    options = fit.Options(
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        seed=chosen.seed,
        time_budget=chosen.time_budget,
        precision=precision,
        patience=chosen.patience,
        teacher=bundle.read(chosen.teacher) if chosen.teacher else None,
    )
    # the card is published: it names the data, not the folders of the machine that trained
    command = shlex.join(["kernelscope", "train", *(Path(a).name if Path(a).is_absolute() else a for a in arguments)])
    try:
        made = job.run(
            job.Job(
                recipe=recipe,
                source=chosen.data,
                output=chosen.output,
                run=run,
                name=name,
                size=chosen.size,
                fit=chosen.fit,
                validation_fraction=chosen.validation_fraction,
                options=options,
                resume=chosen.resume,
                unknown=chosen.unknown,
                command=command,
            ),
            console,
        )
    except fit.Interrupted as stopped:
        again = shlex.join(["kernelscope", "train", *(a for a in arguments if a != "--resume"), "--resume"])
        console.print(f"\n{stopped}; to go on:\n  {again}", highlight=False, markup=False, soft_wrap=True)
        return stopped.exit_code
    accuracy = made.card.accuracy
    console.print(
        f"[green]{accuracy['accuracy']:.2%}[/] of {accuracy['pictures']:,} {accuracy['split']} pictures right; "
        f"calibration error {accuracy['calibration_error']:.2%}; {made.card.cost['latency_ms']} ms a picture\n"
        f"published as {escape(str(made.folder))}; to serve it:\n"
        f"  kernelscope serve --models {escape(shlex.quote(str(chosen.output)))}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def evaluate(arguments: list[str]) -> int:
    """Score a bundle on labelled pictures; returns the exit code."""
    chosen = _evaluate_parser().parse_args(arguments)

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from contract import bundle
    from training import data, evaluate
    from training.progress import counting

    of = bundle.read(chosen.bundle)
    console = Console()
    with counting(Console(stderr=True), "reading pictures") as progress:
        pictures = data.load_for(of.card, chosen.data, progress)
    name, split = data.choose(pictures, chosen.split, of.card)
    with counting(Console(stderr=True), f"the {name} split") as progress:
        score = evaluate.evaluate(of, split, name, progress)
    if chosen.json:
        print(json.dumps(score.describe()))
        return 0
    low, high = score.interval
    console.print(
        f"[bold]{score.accuracy:.2%}[/] of {score.pictures:,} pictures of the {name} split right "
        f"(95 % interval {low:.2%} to {high:.2%})\n"
        f"calibration error {score.calibration_error:.2%} (before the temperature {score.uncalibrated_error:.2%}), "
        f"cross-entropy {score.cross_entropy:.4f}",
        highlight=False,
        soft_wrap=True,
    )
    if data.trained_on(of.card, pictures) and name in ("train", "all"):
        console.print("[yellow]it was trained on these pictures, or on most of them[/]", highlight=False)
    table = Table("class", "right", "most often taken for", box=None)
    for row, label in enumerate(of.card.labels):
        mistakes = score.confusion[row].copy()
        mistakes[row] = 0
        worst = mistakes.argmax()
        taken = f"{escape(of.card.labels[worst])} ({mistakes[worst]})" if mistakes[worst] else ""
        table.add_row(
            escape(label), f"{score.per_class[label]:.1%}" if label in score.per_class else "no pictures", taken
        )
    console.print(table)
    return 0


def compare(arguments: list[str]) -> int:
    """Set two bundles side by side on the same pictures; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="kernelscope compare",
        description="Set two bundles side by side on the same labelled pictures: accuracy, calibration, speed, size.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope compare models/cifar10/1 models/cifar10/2 --data cifar10
  kernelscope compare out/pets/1 out/pets/2 --data pets/ --json""",
    )
    add = parser.add_argument
    add("first", type=Path, metavar="A", help="a folder models/<name>/<version>")
    add("second", type=Path, metavar="B", help="another, of the same classes")
    _add_pictures(parser)
    chosen = parser.parse_args(arguments)

    from rich.console import Console
    from rich.table import Table

    from contract import bundle
    from training import compare
    from training.progress import counting

    both = bundle.read(chosen.first), bundle.read(chosen.second)
    with counting(Console(stderr=True), "reading pictures") as progress:
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
    table.add_row("right alone", *(f"{count:,} pictures" for count in found.only))
    table.add_row("calibration error", *(f"{score.calibration_error:.2%}" for score in found.scores))
    table.add_row("one picture, one thread", *(f"{value:.2f} ms" for value in found.speed.milliseconds))
    table.add_row("model", *(f"{size / 1e6:.2f} MB" for size in found.size))
    table.add_row("type", *(str(of.card.cost.get("dtype", "")) for of in both))
    console.print(table)
    middle, low, high = found.difference
    sure = "more than chance" if found.p_value < 0.05 else "no more than chance may bring"
    console.print(
        f"on {found.scores[0].pictures:,} pictures of the {found.scores[0].split} split the second is right "
        f"{100 * middle:+.2f} points as often (95 % interval {100 * low:+.2f} to {100 * high:+.2f}; "
        f"McNemar's exact test: p = {found.p_value:.2g}, {sure}), and {found.speed.ratio:.2f} times as fast "
        f"({found.speed.spread[0]:.2f} to {found.speed.spread[1]:.2f})",
        soft_wrap=True,
    )
    return 0


def quantize(arguments: list[str]) -> int:
    """Publish the int8 form of a bundle, if it is worth it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="kernelscope quantize",
        description="Make a bundle's int8 form, and publish it if it is twice as fast and as good as before.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope quantize models/cifar10/1 --data cifar10
  kernelscope quantize out/pets/1 --data pets/ --output out""",
    )
    add = parser.add_argument
    add("bundle", type=Path, help="a folder models/<name>/<version>, of float32")
    add("--data", required=True, metavar="WHERE", help="the labelled pictures that it was trained on")
    add("--output", type=Path, default=Path("out"), metavar="DIR", help="the models folder to publish to (out)")
    _add_unknown(parser)
    chosen = parser.parse_args(arguments)

    from rich.console import Console
    from rich.markup import escape

    from contract import bundle

    _check_backend()
    with _quiet():
        from training import quantize

    console = Console()
    made = quantize.run(bundle.read(chosen.bundle), chosen.data, chosen.output, console, chosen.unknown)
    accuracy, cost = made.card.accuracy, made.card.cost
    console.print(
        f"[green]{accuracy['accuracy']:.2%}[/] of {accuracy['pictures']:,} {accuracy['split']} pictures right; "
        f"{cost['latency_ms']} ms a picture, {cost['bytes']:,} bytes\n"
        f"published as {escape(str(made.folder))}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def _train_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kernelscope train",
        description="Train a network on labelled pictures, export it to ONNX, and publish it as a bundle.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope train                                   CIFAR-10, the recipe 'fast'
  kernelscope train --data my-pictures/               a folder with one folder a class
  kernelscope train --data pets.tar.xz --time-budget 30m
  kernelscope train --recipe seed --data cifar10.zip --epochs 64 --resume""",
    )
    add = parser.add_argument
    add("--data", default="cifar10", metavar="WHERE", help="cifar10, an image folder, an archive of one, or a .npz")
    add("--recipe", default="fast", metavar="NAME", help="fast (the default), small, best, seed or seed-plus")
    add("--output", type=Path, default=Path("out"), metavar="DIR", help="the models folder to publish to (out)")
    add("--name", help="the model's name (that of the data)")
    add("--run", type=Path, metavar="DIR", help="for checkpoints and logs (runs/<name>-<recipe>)")
    add("--resume", action="store_true", help="go on with the run in that folder; start it if there is none")
    add("--epochs", type=_positive, metavar="N", help="passes over the pictures (the recipe's; more where few)")
    add("--batch-size", type=_positive, metavar="N", help="pictures a step (the recipe's; less where few)")
    add(
        "--patience",
        type=_natural,
        metavar="N",
        help="end soon after N epochs without a better one; 0: never (a third)",
    )
    add("--teacher", type=Path, metavar="BUNDLE", help="a bundle of the same classes to learn from as well")
    add("--seed", type=_natural, default=0, metavar="N", help="of weights, order and augmentation (0)")
    add(
        "--time-budget",
        type=_duration,
        metavar="TIME",
        help="train for 90s, 30m or 2h at most, schedule included; what follows takes a minute more",
    )
    add("--size", type=_size, metavar="HxW", help="bring pictures to this size (their own, 224 at most)")
    add("--fit", choices=FITS, default="crop", help="how a picture of another shape takes that size (crop)")
    add("--no-flip", action="store_true", help="never mirror pictures: where left and right tell classes apart")
    add(
        "--validation-fraction",
        type=float,
        default=0.1,
        metavar="F",
        help="share of the pictures that choices are made by; where there is no test split, as many to test (0.1)",
    )
    _add_unknown(parser)
    add(
        "--precision",
        choices=("auto", "float32", "mixed_bfloat16"),
        default="auto",
        help="auto: bfloat16 where the hardware has it",
    )
    return parser


def _evaluate_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kernelscope evaluate",
        description="Score a bundle on labelled pictures, decoded and run as in service.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope evaluate models/cifar10/1 --data cifar10
  kernelscope evaluate out/pets/2 --data pets/ --split validation --json""",
    )
    add = parser.add_argument
    add("bundle", type=Path, help="a folder models/<name>/<version>")
    _add_pictures(parser)
    return parser


def _add_unknown(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--unknown",
        type=Path,
        metavar="DIR",
        help="a folder of pictures of other things, to be unsure of beside noise, stripes, clouds and shuffled tiles",
    )


def _add_pictures(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", required=True, metavar="WHERE", help="cifar10, an image folder, an archive of one, or a .npz")
    add(
        "--split",
        choices=("test", "validation", "train", "all"),
        help="which pictures (test where there is one, else those held out in the training, else all)",
    )
    add("--json", action="store_true", help="print JSON")


def _word(source: str) -> str:
    """A name for a model, from where its data are."""
    return re.sub(r"[^A-Za-z0-9]+", "-", Path(source).resolve().name.split(".")[0]).strip("-") or "pictures"


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return int(text)


def _duration(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: write 90s, 30m or 2h")
    return float(found[1]) * _SECONDS[found[2]]


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if not found or not all(8 <= int(side) <= 1024 for side in found.groups()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write height x width, as 64x64, from 8 to 1024")
    return int(found[1]), int(found[2])


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
