"""A model that is explained: its file, and its float32 twin where there is one."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from contract import bundle
from contract.card import Card
from contract.network.errors import CannotExplain
from contract.network.form import Form
from service.explanation.contributions import Head
from service.explanation.errors import UnknownClass


class Subject:
    """A version of a model.

    Args:
        folder: its bundle's.

    Raises:
        CannotExplain: its graph cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        described = bundle.read(folder)
        self.folder, self.card = folder, described.card
        self.served = Form(described.model, described.card.labels)
        twin = folder / bundle.FLOAT32
        self._twin = twin if self.served.dtype != "float32" and twin.is_file() else None

    @cached_property
    def exact(self) -> Form:
        """The form that gradients are taken of: the model itself, or its float32 twin.

        Raises:
            CannotExplain: it is quantised and has no twin.
        """
        if self.served.dtype == "float32":
            return self.served
        if self._twin is None:
            raise CannotExplain(
                f"the model is {self.served.dtype}, and no {bundle.FLOAT32} stands beside it to take gradients of"
            )
        return Form(self._twin, self.card.labels)

    @cached_property
    def head(self) -> Head:
        """What makes logits of the last maps, as it is served. Raises `CannotExplain` where it is not linear."""
        return Head(self.served)

    def index(self, name: str) -> int:
        """The index of a class that is given by its name or its index.

        Raises:
            UnknownClass: there is none; the message names those that there are.
        """
        return class_index(self.card, name)


def class_index(card: Card, name: str) -> int:
    """As `Subject.index`."""
    labels = card.labels
    if name in labels:
        return labels.index(name)
    if name.isascii() and name.isdecimal() and int(name) < len(labels):
        return int(name)
    shown = ", ".join(labels[:20]) + (f" and {len(labels) - 20} more" if len(labels) > 20 else "")
    raise UnknownClass(f"there is no class {name[:80]!r}: the classes are {shown}, or 0 to {len(labels) - 1}")
