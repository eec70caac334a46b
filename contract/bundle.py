"""A bundle: one folder with `model.onnx` and its card.

    model.onnx   input `images`: uint8 (N, H, W, 3) RGB; outputs `probabilities` and `logits`: float32 (N, classes).
                 Scaling, normalisation and temperature are inside the graph. `metadata_props["card"]` holds the card.
    card.json    the card, for programs
    README.md    the card, for people

The folder's parent is the model's name and its own name is a version number, so that it is also a valid entry of a
Triton or OpenVINO Model Server repository.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from contract.card import Card
from contract.errors import BundleError, BundleNotFound

__all__ = ["CARD", "INPUT", "LOGITS", "MODEL", "PROBABILITIES", "README", "Bundle", "Card", "check_graph", "read"]

MODEL: Final = "model.onnx"
CARD: Final = "card.json"
README: Final = "README.md"
INPUT: Final = "images"
PROBABILITIES: Final = "probabilities"
LOGITS: Final = "logits"


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk: its folder and its card."""

    folder: Path
    card: Card

    @property
    def model(self) -> Path:
        """Where `model.onnx` is."""
        return self.folder / MODEL

    @property
    def version(self) -> int:
        """The version, from the folder's name; 0 for a folder whose name is not a number."""
        name = self.folder.absolute().name
        return int(name) if name.isdecimal() else 0


class Value(Protocol):
    """One of a graph's inputs or outputs, as onnxruntime describes it."""

    name: str
    type: str
    shape: list[int | str | None]


def check_graph(of: Bundle, inputs: Iterable[Value], outputs: Iterable[Value]) -> None:
    """Raise `BundleError` where a model takes or gives something else than its card says."""
    card, where = of.card, of.model
    taken, given = ({value.name: value for value in values} for values in (inputs, outputs))
    if set(taken) != {INPUT} or PROBABILITIES not in given:
        raise BundleError(f"{where} must take {INPUT!r} and give {PROBABILITIES!r}")
    takes = taken[INPUT]
    if takes.type != "tensor(uint8)" or takes.shape[1:] != [card.height, card.width, 3]:
        raise BundleError(
            f"{where} takes {takes.type} {takes.shape}; its card says uint8 (N, {card.height}, {card.width}, 3)"
        )
    gives = given[PROBABILITIES].shape
    if isinstance(gives[-1], int) and gives[-1] != len(card.labels):
        raise BundleError(f"{where} gives {gives[-1]} classes; its card names {len(card.labels)}")


def read(folder: Path) -> Bundle:
    """Read a bundle's card and see that its model is there; the model itself is not loaded.

    Raises:
        BundleNotFound: there is no such folder.
        BundleError: it holds no bundle, or the card cannot be read.
    """
    if not folder.is_dir():
        raise BundleNotFound(f"{folder} is not a folder: give the folder that holds {MODEL} and {CARD}")
    for name in (MODEL, CARD):
        if not (folder / name).is_file():
            raise BundleError(f"{folder} has no {name}: it is not a bundle (models/<name>/<version>/)")
    path = folder / CARD
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from None
    return Bundle(folder, Card.from_json(text, str(path)))
