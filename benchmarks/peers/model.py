"""What every peer shares: the shipped model, run as its own documentation would have a user run it."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

FOLDER = Path(os.environ["BENCH_BUNDLE"])
LABELS = json.loads((FOLDER / "card.json").read_text())["labels"]


def session() -> onnxruntime.InferenceSession:
    """With onnxruntime's defaults."""
    return onnxruntime.InferenceSession(FOLDER / "model.onnx", providers=["CPUExecutionProvider"])


def pixels(image: bytes) -> np.ndarray:
    """(32, 32, 3) uint8."""
    return np.asarray(Image.open(io.BytesIO(image)).convert("RGB").resize((32, 32)))


def run(session: onnxruntime.InferenceSession, images: np.ndarray) -> list[dict[str, object]]:
    """The likeliest class of each image."""
    (probabilities,) = session.run(["probabilities"], {"images": images})
    best = probabilities.argmax(1)
    return [{"label": LABELS[i], "probability": float(p[i])} for i, p in zip(best, probabilities, strict=True)]
