"""`kernelscope inspect`: labelled images at a glance, before anything is trained on them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from contract.errors import UsageError
from training import parsers


def inspect(arguments: list[str]) -> int:
    """Say what is in labelled images and what is wrong with them; returns the exit code."""
    chosen = parsers.inspect().parse_args(arguments)
    if chosen.sheet is not None and _is_among(chosen.sheet, chosen.data):
        raise UsageError(f"--sheet {chosen.sheet} lies among the images, and would be one of them: write it elsewhere")

    from rich.console import Console

    from training.data import announcement, dataset
    from training.data.split import Decoded
    from training.data.summary import summarise
    from training.loop.progress import counting

    def draw(decoded: Decoded, path: Path) -> None:
        from training.export import contact_sheet

        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contact_sheet.draw(decoded.labels, decoded.splits))
        print(f"contact sheet: {path}", file=sys.stderr if chosen.json else sys.stdout)

    with counting(Console(stderr=True), "reading images") as progress:
        name, decoded = dataset.read(chosen.data, size=chosen.size, resize_mode=chosen.resize_mode, progress=progress)
    summary = summarise(name, decoded)
    if chosen.json:
        print(json.dumps(summary.describe()))
    else:
        announcement.announce(summary, Console())
    if chosen.sheet is not None:
        draw(decoded, chosen.sheet)
    elif not chosen.json:
        path = Path("runs", f"{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-') or 'images'}-contact-sheet.png")
        if _is_among(path, chosen.data):
            print("no contact sheet, for it would lie among the images: give its place as --sheet")
            return 0
        try:
            draw(decoded, path)
        except OSError as error:  # it was not asked for
            print(f"no contact sheet ({path}: {error.strerror}): give its place as --sheet")
    return 0


def _is_among(path: Path, data: str) -> bool:
    """Whether a file would lie in the folder of the images."""
    return Path(data).is_dir() and path.resolve().is_relative_to(Path(data).resolve())
