"""A bundle: one folder with `model.onnx` and its card.

    model.onnx   input `images`: uint8 (N, H, W, 3) RGB; outputs `probabilities` and `logits`: float32 (N, classes).
                 Scaling, normalisation and temperature are inside the graph. `metadata_props["card"]` holds the card.
    float32.onnx optional, beside an int8 model: its float32 form, with the same inputs and outputs, for looking inside
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

MODEL: Final = "model.onnx"
FLOAT32: Final = "float32.onnx"
CARD: Final = "card.json"
README: Final = "README.md"
LARGEST_CARD: Final = 8 * 2**20
"""In bytes; a card of ten thousand classes has less than one million."""
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
        """The path of `model.onnx`."""
        return self.folder / MODEL

    @property
    def float32(self) -> Path | None:
        """The path of the float32 form: `model.onnx` itself or `float32.onnx`; None if there is none."""
        if self.card.cost.dtype == "float32":
            return self.model
        path = self.folder / FLOAT32
        return path if path.is_file() else None

    @property
    def version(self) -> int:
        """The version, from the folder's name; 0 if that is not a number."""
        name = self.folder.absolute().name
        return int(name) if name.isdecimal() else 0


class Value(Protocol):
    """An input or output of a graph, as onnxruntime describes it."""

    name: str
    type: str
    shape: list[int | str | None]


def check_graph(
    bundle: Bundle, inputs: Iterable[Value], outputs: Iterable[Value], required: Iterable[str] = (PROBABILITIES,)
) -> None:
    """Raise `BundleError` if a model's inputs or outputs are not what its card says, or lack a required output."""
    card, where = bundle.card, bundle.model
    inputs_by_name, outputs_by_name = ({value.name: value for value in values} for values in (inputs, outputs))
    if set(inputs_by_name) != {INPUT} or PROBABILITIES not in outputs_by_name:
        raise BundleError(f"{where} must have the input {INPUT!r} and the output {PROBABILITIES!r}")
    for name in required:
        if name not in outputs_by_name:
            raise BundleError(f"{where} has no output {name!r}, which is needed here")
    images = inputs_by_name[INPUT]
    if images.type != "tensor(uint8)" or images.shape[1:] != [card.height, card.width, 3]:
        raise BundleError(
            f"{where} takes {images.type} {images.shape}; its card says uint8 (N, {card.height}, {card.width}, 3)"
        )
    shape = outputs_by_name[PROBABILITIES].shape
    classes = shape[-1] if shape else 0
    if isinstance(classes, int) and classes != len(card.labels):
        raise BundleError(f"{where} gives {classes} classes; its card names {len(card.labels)}")


def read(folder: Path) -> Bundle:
    """Read a bundle's card and check that its model file exists; the model is not loaded.

    Raises:
        BundleNotFound: there is no such folder.
        BundleError: the folder holds no bundle, or its card cannot be read.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError:  # onnxruntime takes no other names
        raise BundleError(f"the name of {folder} is not valid UTF-8: rename the folder") from None
    if not folder.is_dir():
        raise BundleNotFound(f"{folder} is not a folder: give the folder that holds {MODEL} and {CARD}")
    for name in (MODEL, CARD):
        if not (folder / name).is_file():
            raise BundleError(f"{folder} has no {name}: it is not a bundle (models/<name>/<version>/)")
    path = folder / CARD
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_CARD + 1)
        if len(data) > LARGEST_CARD:
            raise BundleError(f"{path} is larger than {LARGEST_CARD // 2**20} MiB: it is no card")
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from None
    return Bundle(folder, Card.from_json(text, str(path)))
