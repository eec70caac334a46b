"""An image with its answer, as it is kept for a person to look at."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from PIL import Image, PngImagePlugin

from contract.preprocessing import Pixels
from service.inference.batcher import Probabilities

Kind = Literal["unsure", "disputed"]

ANSWER: Final = "kernelscope"
"""The PNG text that holds the answer."""
_CLASSES: Final = 5


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
