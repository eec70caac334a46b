"""`kernelscope serve` and `kernelscope predict`."""

from __future__ import annotations

import argparse
import gc
import glob
import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contract import files, formats, repository
from contract.errors import ImageError, UsageError

if TYPE_CHECKING:
    from contract.preprocessing import Pixels
    from service.classifier import Classifier, Prediction

_FEW: Final = 64
"""Images that need no progress bar."""


def serve(arguments: list[str]) -> int:
    """Serve a folder of models; returns the exit code."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something that can look for new versions
    gc.disable()  # what is imported stays: walking it would take a tenth of the start

    from service import settings

    parser = argparse.ArgumentParser(
        prog="kernelscope serve",
        description="Answer over HTTP what is in an image.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope serve                                   the shipped model on port 8000
  kernelscope serve --models out --port 9000
  KERNELSCOPE_PORT=9000 kernelscope serve             each flag is a variable, too

then:
  curl -F file=@cat.jpg localhost:8000/predict""",
    )
    for name, field in settings.Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "" if default is None or name == "models" else f" ({default})"
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar=name.split("_")[-1].upper(),
            help=f"{field.description}{shown}",
        )
    chosen = settings.settled(settings.load(**vars(parser.parse_args(arguments))))
    if settings.may_fork():
        from service.supervisor import serve as serve_settings
    else:
        from service.server import serve as serve_settings

    gc.freeze()  # a collector that walks what forked processes share would write to it, and so copy it
    gc.enable()
    return serve_settings(chosen)


def predict(arguments: list[str]) -> int:
    """Classify image files; returns the exit code: 1 where one of them could not be read."""
    parser = argparse.ArgumentParser(
        prog="kernelscope predict",
        description="Say what is in image files, without a server.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope predict cat.jpg dog.png
  kernelscope predict holiday/ --json > answers.jsonl
  kernelscope predict 'photos/**/*.jpg' --models out --top-k 3""",
    )
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="an image, a folder of them, or a pattern")
    add(
        "--models",
        type=Path,
        default=None,
        metavar="DIR",
        help="folder of models (KERNELSCOPE_MODELS, else the shipped one)",
    )
    add("--model", metavar="NAME", help="which of them (the only one, or cifar10)")
    add("--version", type=int, metavar="N", help="which version of it (the newest)")
    add("--top-k", type=int, default=3, metavar="K", help="classes to list (3)")
    add("--json", action="store_true", help="one line of JSON an image")
    chosen = parser.parse_args(arguments)
    if chosen.top_k < 1:
        raise UsageError(f"--top-k is {chosen.top_k}; it must be 1 or more")

    from service.classifier import Classifier, batches, models_folder

    root = chosen.models or models_folder()
    name = chosen.model or repository.default(list(repository.models(root)))
    bundle = repository.find(root, name, chosen.version)
    unlisted: list[OSError] = []
    paths = list(dict.fromkeys(_paths(chosen.images, unlisted.append)))
    classifier = Classifier(bundle)
    failed = 0
    with _Answers(as_json=chosen.json, total=len(paths), top_k=chosen.top_k) as answers:
        for folder in unlisted:
            failed += 1
            answers.error(Path(folder.filename), folder.strerror or str(folder))
        for batch in batches(paths):
            read = [_read(classifier, path) for path in batch]
            images = [pixels for pixels in read if not isinstance(pixels, str)]
            predictions = iter(classifier.run(images) if images else ())
            for path, pixels in zip(batch, read, strict=True):
                if isinstance(pixels, str):
                    failed += 1
                    answers.error(path, pixels)
                else:
                    answers.add(path, next(predictions))
    return 1 if failed else 0


def _paths(words: list[str], on_error: Callable[[OSError], None]) -> Iterator[Path]:
    """Files, what is in folders, and what patterns match; in order. Raises `UsageError` for one that names nothing.

    A folder in a folder that cannot be listed is told to `on_error`.
    """
    for word in words:
        path = Path(word)
        if word and path.is_dir():
            inside = files.images(path, on_error)
            if not inside:
                raise UsageError(f"{word} holds no images ({' '.join(formats.SUFFIXES)})")
            yield from inside
        elif word and path.is_file():
            yield path
        elif path.exists():
            raise UsageError(f"{word!r} is neither a file nor a folder")
        else:
            matched = sorted(glob.glob(word, recursive=True))
            if not matched:
                raise UsageError(f"there is no file {word!r}")
            yield from _paths(matched, on_error)


def _read(classifier: Classifier, path: Path) -> Pixels | str:
    """An image as the model takes it, or why it cannot be read."""
    try:
        return classifier.read(files.contents(path))
    except ImageError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)


class _Answers:
    """Prints answers as they come, as text or JSON lines; a bar on standard error while many are at work."""

    def __init__(self, *, as_json: bool, total: int, top_k: int) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._as_json, self._top_k = as_json, top_k
        self._console = Console(highlight=False, soft_wrap=True)
        errors = Console(stderr=True)
        self._progress = Progress(console=errors, transient=True, disable=not errors.is_terminal or total <= _FEW)
        self._task = self._progress.add_task("images", total=total)

    def __enter__(self) -> _Answers:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def add(self, path: Path, prediction: Prediction) -> None:
        top = prediction.top[: self._top_k]
        answer = {
            "file": str(path),
            "label": prediction.label,
            "probability": round(prediction.probability, 6),
            "unsure": prediction.unsure,
            "top": [{"label": other.label, "probability": round(other.probability, 6)} for other in top],
        }
        rest = ", ".join(f"{other.label} {other.probability:.1%}" for other in top[1:])
        colour, note = ("bold yellow", ", unsure") if prediction.unsure else ("bold green", "")
        best = f" {prediction.probability:.1%}{note}  "
        self._print(answer, f"{path}  ", (prediction.label, colour), best, (rest, "dim"))

    def error(self, path: Path, why: str) -> None:
        self._print({"file": str(path), "error": why}, f"{path}  ", ("not read:", "red"), f" {why}")

    def _print(self, answer: dict[str, Any], *parts: str | tuple[str, str]) -> None:
        if self._as_json:
            print(json.dumps(answer), flush=not sys.stdout.isatty())
        else:
            from rich.text import Text

            self._console.print(Text.assemble(*parts))
        self._progress.advance(self._task)
