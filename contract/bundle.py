"""A bundle: one folder with `model.onnx` and its card.

    model.onnx   input `images`: uint8 (N, H, W, 3) RGB; outputs `probabilities` and `logits`: float32 (N, classes).
                 Scaling, normalisation and temperature are inside the graph. `metadata_props["card"]` holds the card.
    card.json    the card, for programs
    README.md    the card, for people

The folder's parent is the model's name and its own name is a version number, so that it is also a valid entry of a
Triton or OpenVINO Model Server repository.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from contract.errors import BundleError, BundleNotFound
from contract.preprocessing import RESIZE_MODES, ResizeMode

FORMAT: Final = 2
"""The format that this code writes; it reads this one and older ones."""

MODEL: Final = "model.onnx"
CARD: Final = "card.json"
README: Final = "README.md"
LARGEST_SIDE: Final = 4096
"""In pixels: no input is higher or wider."""
_HOTTEST: Final = 1000
INPUT: Final = "images"
PROBABILITIES: Final = "probabilities"
LOGITS: Final = "logits"


@dataclass(frozen=True)
class Card:
    """What is known of a model.

    Attributes:
        name: the model's name, the folder above the version.
        labels: one name a class, in the order of the outputs.
        height, width: the input's size in pixels.
        resize_mode: how an image that has another shape takes this one.
        temperature: what the logits are divided by, inside the graph, before the softmax (Guo et al. 2017).
        unsure_below: an answer whose probability is lower is called unsure; fitted on held-out images and on images
            of nothing the model knows. 0 where it was not.
        data: the labelled images: name, checksum, counts a split.
        training: recipe, seed, epochs, wall time in seconds, hardware, versions, commit.
        accuracy: accuracy and calibration error in [0, 1] with the split and number of images they are from.
        cost: parameters, multiply-adds an image, bytes, latency in milliseconds.
        created: when, ISO 8601, UTC.
        format: the bundle's format.
    """

    name: str
    labels: tuple[str, ...]
    height: int
    width: int
    resize_mode: ResizeMode = "crop"
    temperature: float = 1.0
    unsure_below: float = 0.0
    data: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    accuracy: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    format: int = FORMAT

    def to_json(self) -> str:
        """The card as indented JSON, ending in a line feed."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Card:
        """Read a card.

        Args:
            text: what `to_json` wrote; keys that are not known are left out.
            where: what to call it in an error.

        Raises:
            BundleError: not JSON, of a newer format, or without what serving needs.
        """
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{where} is not JSON: {error}") from None
        if not isinstance(raw, dict):
            raise BundleError(f"{where} holds a {type(raw).__name__}, not an object")
        version = raw.get("format", FORMAT)
        if not isinstance(version, int) or version > FORMAT:
            raise BundleError(f"{where} has format {version}; this version reads up to {FORMAT}: upgrade kernelscope")
        if version == 1:
            raw = _from_format_1(raw)
        known = {f.name for f in dataclasses.fields(cls)}
        try:
            card = cls(**{key: value for key, value in raw.items() if key in known})
        except TypeError as error:
            raise BundleError(f"{where} lacks a field: {error}") from None
        card._check(where)
        return dataclasses.replace(card, labels=tuple(card.labels))

    def _check(self, where: str) -> None:
        def refuse(what: str) -> None:
            raise BundleError(f"{where}: {what}")

        if not isinstance(self.name, str) or not self.name:
            refuse("`name` must be a word")
        if not isinstance(self.labels, list | tuple) or len(self.labels) < 2:
            refuse("`labels` must list two classes or more")
        if not all(isinstance(label, str) and label and _is_text(label) for label in self.labels):
            refuse("every one of `labels` must be a word")
        if len(set(self.labels)) != len(self.labels):
            refuse("`labels` names a class twice")
        for side in ("height", "width"):
            value = getattr(self, side)
            if not isinstance(value, int) or not 1 <= value <= LARGEST_SIDE:
                refuse(f"`{side}` must be a whole number of pixels, {LARGEST_SIDE} at most")
        if self.resize_mode not in RESIZE_MODES:
            refuse(f"`resize_mode` must be one of {', '.join(RESIZE_MODES)}")
        if not isinstance(self.temperature, int | float) or not 0 < self.temperature <= _HOTTEST:
            refuse(f"`temperature` must be a number above 0, {_HOTTEST} at most")
        if not isinstance(self.unsure_below, int | float) or not 0 <= self.unsure_below <= 1:
            refuse("`unsure_below` must be a probability, 0 to 1")
        for part in ("data", "training", "accuracy", "cost"):
            if not isinstance(getattr(self, part), dict):
                refuse(f"`{part}` must be an object")
        for split in ("train", "validation", "test"):
            if not isinstance(self.data.get(split, 0), int):
                refuse(f"`data.{split}` must be a number of images")
        shares = self.data.get("held_out", [0, 0])
        if not isinstance(shares, list | tuple) or len(shares) != 2 or not all(map(_is_share, shares)):
            refuse("`data.held_out` must hold two shares, 0 to 1")
        if not isinstance(self.accuracy.get("accuracy", 0.0), int | float):
            refuse("`accuracy.accuracy` must be a number")


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


def _from_format_1(raw: dict[str, Any]) -> dict[str, Any]:
    """A card of format 1 in the names of format 2: `fit` is `resize_mode`, pictures are images."""
    renamed = {"fit": "resize_mode", "pictures": "images", "pictures_per_second": "images_per_second"}

    def new(part: Any) -> Any:
        return {renamed.get(key, key): value for key, value in part.items()} if isinstance(part, dict) else part

    return {key: new(value) for key, value in new(raw).items()} | {"format": FORMAT}


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < 1


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


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
