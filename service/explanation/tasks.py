"""What the explanation process is asked for, and what it answers with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from contract.preprocessing import Pixels

Kind = Literal["explain", "activations", "layers", "kernels", "features", "neighbours"]
Form = Literal["json", "png", "binary"]


@dataclass(frozen=True)
class Options:
    """The parameters of a request, of all kinds together; None where one is not given."""

    method: str = "contributions"
    target: str | None = None
    against: str | None = None
    layer: str | None = None
    channel: int | None = None
    unit: tuple[int, int, int] | None = None
    top: int | None = None
    without: tuple[int, ...] | None = None
    fill: str | None = None
    patch: int | None = None
    stride: int | None = None
    baseline: str | None = None
    steps: int | None = None
    view: Literal["overlay", "alone"] = "overlay"
    count: int = 8


@dataclass(frozen=True)
class Task:
    """One request.

    Attributes:
        kind: what is wanted.
        folder: the bundle's.
        model, version: as replies name them.
        form: how the answer is to look.
        image: uint8 (1, H, W, 3), where one is needed.
        options: the rest.
    """

    kind: Kind
    folder: Path
    model: str
    version: int
    form: Form = "json"
    image: Pixels | None = None
    options: Options = field(default_factory=Options)

    @property
    def pixels(self) -> Pixels:
        """The image of a task that has one."""
        if self.image is None:
            raise ValueError(f"{self.kind} needs an image")
        return self.image


@dataclass(frozen=True)
class Answer:
    """A reply's body, with what its headers say of it."""

    body: bytes
    media_type: str
    headers: dict[str, str] = field(default_factory=dict)
