"""The class names of a model, from a file.

Three forms are read: text with one name a line; JSON as a list of names or as TorchServe's `index_to_name.json`, which
has them by index, each a name or a list whose last entry is the name; and the `config.json` of Hugging Face, whose
`id2label` has them by index.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training.importing.errors import CannotImport


def read(path: Path) -> tuple[str, ...]:
    """Read class names, in the order of a model's outputs.

    Raises:
        CannotImport: no such file, not UTF-8, not JSON, fewer than two names, an empty name, a name twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CannotImport(f"the labels {path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise CannotImport(f"the labels {path} are not UTF-8: save the file as UTF-8, one class name a line") from None
    is_json = text.lstrip().startswith(("{", "["))
    return check(_of_json(path, text) if is_json else _of_lines(path, text), str(path))


def check(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Return class names if a model can have them. Raises `CannotImport`; `where` is where they are from."""
    if len(names) < 2:
        raise CannotImport(f"{where} names {len(names)} classes; a classifier has two or more, one name a line")
    first: dict[str, int] = {}
    for place, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise CannotImport(f"class {place} of {where} has no name: {name!r}")
        if name in first:
            raise CannotImport(
                f"{where} names {name!r} twice, as classes {first[name]} and {place} (counted from 0): give each a "
                "name of its own"
            )
        first[name] = place
    return names


def _of_lines(path: Path, text: str) -> tuple[str, ...]:
    names = [line.strip() for line in text.rstrip().split("\n")] if text.strip() else []
    for place, name in enumerate(names):
        if not name:
            raise CannotImport(f"{path} has a blank line {place + 1}: one class name a line")
        if "\0" in name:
            raise CannotImport(f"line {place + 1} of {path} is no text: one class name a line")
    return tuple(names)


def _of_json(path: Path, text: str) -> tuple[str, ...]:
    try:
        raw: Any = json.loads(text)
    except ValueError as error:
        raise CannotImport(f"{path} is not JSON ({error}): give one class name a line, or index_to_name.json") from None
    if isinstance(raw, dict):
        raw = raw.get("id2label", raw)
    if isinstance(raw, dict):
        missing = next((place for place in range(len(raw)) if str(place) not in raw), None)
        if missing is not None:
            raise CannotImport(f"{path} has no class {missing}: name all, by index from 0 to {len(raw) - 1}")
        raw = [raw[str(place)] for place in range(len(raw))]
    if not isinstance(raw, list):
        raise CannotImport(f"{path} holds no names: give a list, or an object of names by index")
    # TorchServe's files may have ["n02123045", "tabby"]: WordNet's id, then the name
    names = [entry[-1] if isinstance(entry, list) and entry else entry for entry in raw]
    for place, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise CannotImport(f"class {place} of {path} has no name: {json.dumps(name)[:40]}")
    return tuple(name.strip() for name in names)
