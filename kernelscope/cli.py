"""The `kernelscope` command: finds the subcommand, imports its module, and turns errors into exit codes."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from contract.errors import KernelscopeError
from contract.version import VERSION


@dataclass(frozen=True)
class _Command:
    """Where a subcommand lives, what it does, and the extra to install where its packages are missing."""

    module: str
    summary: str
    extra: str = ""


COMMANDS: Final = {
    "serve": _Command("service.cli", "answer over HTTP what is in an image"),
    "predict": _Command("service.cli", "say what is in image files, without a server"),
    "train": _Command("training.cli", "labelled images in, a served model out", "[train]"),
    "inspect": _Command("training.inspection", "say what is in labelled images, and what is wrong", "[train]"),
    "evaluate": _Command("training.cli", "score a model on labelled images", "[train]"),
    "compare": _Command("training.cli", "set two models side by side: accuracy, speed, size", "[train]"),
    "quantize": _Command("training.cli", "make a model's int8 form, smaller and faster", "[train]"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand; returns its exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    # onnxruntime's builds report to their makers unless told not to; it reads this as it loads
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files are any bytes
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
    try:
        command: Callable[[list[str]], int] = getattr(importlib.import_module(subcommand.module), words[0])
        code = command(words[1:])
        sys.stdout.flush()
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("service", "training", "contract"):
            raise
        return _say(words[0], f"{error.name} is not installed: pip install 'kernelscope{subcommand.extra}'", 1)
    except KernelscopeError as error:
        return _say(words[0], str(error), error.exit_code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # `kernelscope ... | head` is no mistake; what is still to be written goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # the machine's: a full disk, a file that may not be read, a name that is too long
        what = f"{error.filename}: " if error.filename else ""
        return _say(words[0], f"{what}{error.strerror or error}", 1)
    return code


def _say(command: str, message: str, code: int) -> int:
    print(f"kernelscope {command}: {message}", file=sys.stderr)
    return code


def _help() -> str:
    rows = "\n".join(f"  {name:<10}{subcommand.summary}" for name, subcommand in COMMANDS.items())
    return (
        "usage: kernelscope COMMAND [options]\n\n"
        f"Trains image classifiers and serves them.\n\ncommands:\n{rows}\n\n"
        "kernelscope COMMAND --help says more and gives examples."
    )
