"""The `kernelscope` command: imports the subcommand's module, runs it, and turns errors into exit codes."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from contract.errors import KernelscopeError
from contract.version import VERSION


@dataclass(frozen=True)
class _Command:
    """A subcommand.

    Attributes:
        module: where its function is.
        summary: one line for a person.
        extra: that installs its packages.
        function: its function's name, where that is not the subcommand's.
        variables: of the environment that must be set before its packages load.
    """

    module: str
    summary: str
    extra: str = ""
    function: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)


COMMANDS: Final = {
    # OpenBLAS would start threads as NumPy loads, and the processes that serve are forked after that
    "serve": _Command("service.cli", "serve models over HTTP", variables={"OPENBLAS_NUM_THREADS": "1"}),
    "predict": _Command("service.cli", "classify image files, without a server"),
    "classify": _Command("service.classify.cli", "classify any number of images into a Parquet file", "[classify]"),
    "push": _Command("service.storage.cli", "upload a model to an object store", "[classify]"),
    "pull": _Command("service.storage.cli", "fill the models folder from an object store", "[classify]"),
    "look": _Command("service.look.cli", "show how a model decides about an image, in one HTML file"),
    "train": _Command("training.cli", "train a model on labelled images and publish it", "[train]"),
    "inspect": _Command("training.inspection", "describe labelled images and their problems", "[train]"),
    "evaluate": _Command("training.cli", "score a model on labelled images", "[train]"),
    "compare": _Command("training.cli", "compare two models: accuracy, speed, size", "[train]"),
    "dream": _Command("service.dream_cli", "show what a layer sees in an image, by exaggerating it"),
    "features": _Command("training.cli", "find what each channel of a model responds to", "[train]"),
    "import": _Command("training.importing.cli", "publish an ONNX classifier from elsewhere", function="import_"),
    "interpolate": _Command("training.cli", "mix a fine-tuned model with what it was before", "[train]"),
    "quantize": _Command("training.cli", "convert a model to int8, which is smaller and faster", "[train]"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand; return its exit code: 0 success, 1 failure, 2 wrong usage, 130 interrupted."""
    # onnxruntime's builds send telemetry unless this is set when they load
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may be any bytes
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"kernelscope {VERSION}")
        return 0
    subcommand = COMMANDS.get(words[0])
    if subcommand is None:
        print(f"kernelscope: there is no command {words[0]!r}: use one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    for name, value in subcommand.variables.items():
        os.environ.setdefault(name, value)
    try:
        command: Callable[[list[str]], int] = getattr(
            importlib.import_module(subcommand.module), subcommand.function or words[0]
        )
        code = command(words[1:])
        sys.stdout.flush()
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("service", "training", "contract"):
            raise
        return _print_error(words[0], f"{error.name} is not installed: pip install 'kernelscope{subcommand.extra}'", 1)
    except KernelscopeError as error:
        return _print_error(words[0], str(error), error.exit_code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # `kernelscope ... | head` is no error; the rest of the output is discarded
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a file that may not be read, a name that is too long
        file = f"{error.filename}: " if error.filename else ""
        return _print_error(words[0], f"{file}{error.strerror or error}", 1)
    return code


def _print_error(command: str, message: str, code: int) -> int:
    """Print one line to standard error; return the exit code."""
    print(f"kernelscope {command}: {message}", file=sys.stderr)
    return code


def _help() -> str:
    rows = "\n".join(f"  {name:<12}{subcommand.summary}" for name, subcommand in COMMANDS.items())
    return (
        "usage: kernelscope COMMAND [options]\n\n"
        f"Trains image classifiers and serves them.\n\ncommands:\n{rows}\n\n"
        "kernelscope COMMAND --help lists the options and gives examples."
    )
