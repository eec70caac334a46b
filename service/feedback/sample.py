"""An image with its answer, as it is kept for a person to look at."""

from __future__ import annotations

import io
import json
import re
import secrets
import time
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from PIL import Image, PngImagePlugin

from contract.preprocessing import Pixels
from service.inference.submission import Probabilities

Kind = Literal["unsure", "disputed"]

ANSWER: Final = "kernelscope"
"""The PNG text that holds the answer."""
NAME: Final = re.compile(r"\d{8}-[0-9a-f]{16}\.png")
"""What a sample's file is called: the date, and nothing that tells of a request."""
_CLASSES: Final = 5
_NOT_IN_A_NAME: Final = re.compile(r'[/\\<>:"|?*%\x00-\x1f\x7f]|^[.~@$]|[. ]$')
_LONGEST_NAME: Final = 120
"""Characters of a class's folder; file systems take 255 bytes."""


class StoreFull(Exception):
    """What keeps samples holds as many bytes as it may."""


@dataclass(frozen=True)
class Sample:
    """One image that is to be kept.

    Attributes:
        kind: why.
        model, version: what answered.
        answers: the likeliest classes and their probabilities, the likeliest first.
        label: the class that a client says it is; None where nobody said.
        pixels: as the model saw it, uint8 (H, W, 3).
    """

    kind: Kind
    model: str
    version: int
    answers: tuple[tuple[str, float], ...]
    label: str | None
    pixels: Pixels

    @property
    def folder(self) -> str:
        """The class whose folder it is put in, for a person to correct: the client's, else the model's."""
        return self.label or self.answers[0][0]

    def png(self) -> bytes:
        """The image as a PNG: pixels and the answer, and nothing that came with the client's file."""
        answer = {
            "model": self.model,
            "version": self.version,
            "answers": {label: round(probability, 6) for label, probability in self.answers},
            "disputed_as": self.label,
        }
        text = PngImagePlugin.PngInfo()
        text.add_itxt(ANSWER, json.dumps(answer, ensure_ascii=False))
        out = io.BytesIO()
        Image.fromarray(self.pixels).save(out, "PNG", pnginfo=text)
        return out.getvalue()


def likeliest(labels: tuple[str, ...], probabilities: Probabilities) -> tuple[tuple[str, float], ...]:
    """The likeliest few classes of one answer, float32 (classes,), the likeliest first."""
    ranked = np.argsort(-probabilities, kind="stable")[:_CLASSES]
    return tuple((labels[index], float(probabilities[index])) for index in ranked)


def new_name() -> str:
    """A name for a sample's file, which `NAME` matches."""
    return f"{time.strftime('%Y%m%d', time.gmtime())}-{secrets.token_hex(8)}.png"


def folder_name(label: str) -> str:
    """A class's name as a folder's: what a file system may not take, or hides, is escaped as in a URL.

    Example:
        >>> folder_name("cat/dog"), folder_name(".."), folder_name("Gänseblümchen")
        ('cat%2Fdog', '%2E%2E', 'Gänseblümchen')
    """
    escaped = _NOT_IN_A_NAME.sub(lambda match: f"%{ord(match[0]):02X}", label[:_LONGEST_NAME])
    return escaped or "%"
