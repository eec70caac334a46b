"""`kernelscope look`."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

from contract import files, preprocessing, repository
from contract.errors import UsageError


def look(arguments: list[str]) -> int:
    """Write the page about one image as a file; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="kernelscope look",
        description="Show how a model decides about an image, in one HTML file that needs no server.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  kernelscope look cat.jpg
  kernelscope look cat.jpg -o cat.html --models out --model pets""",
    )
    add = parser.add_argument
    add("image", type=Path, metavar="IMAGE", help="an image")
    add("-o", "--output", type=Path, default=Path("look.html"), metavar="FILE", help="where to (look.html)")
    add("--models", type=Path, metavar="DIR", help="folder of models (KERNELSCOPE_MODELS, else the shipped one)")
    add("--model", metavar="NAME", help="which of them (the only one, or cifar10)")
    add("--version", type=int, metavar="N", help="which version of it (the newest)")
    chosen = parser.parse_args(arguments)
    if not chosen.image.is_file():
        raise UsageError(f"there is no file {str(chosen.image)!r}")
    if chosen.output.is_dir() or not chosen.output.absolute().parent.is_dir():
        raise UsageError(f"{chosen.output} cannot be written: give a file in a folder that is there")

    from service.classifier import models_folder

    root = chosen.models or models_folder()
    bundle = repository.find(root, chosen.model or repository.default(list(repository.models(root))), chosen.version)
    card, data = bundle.card, files.contents(chosen.image)
    preprocessing.read(data, card.height, card.width, card.resize_mode)  # what is no image is told at once

    from rich.console import Console

    from service.look import recording, single_file

    with Console(stderr=True).status("looking") as status:
        told = asyncio.run(recording.record(bundle, chosen.image, data, lambda what: status.update(f"looking: {what}")))
    page = single_file.html(told)
    _write(chosen.output, page)
    print(f"{chosen.output}: {len(page.encode()) / 1e6:.1f} MB, open it in a browser")
    return 0


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
