"""What every peer shares: the model, run as its own documentation would have a user run it.

BENCH_BUNDLE is its folder. BENCH_THREADS are onnxruntime's threads, its own choice where that is 0. BENCH_DECODER is
`pillow`, which decodes an image at its full size, or `ours`, which decodes as Kernelscope does.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

FOLDER = Path(os.environ["BENCH_BUNDLE"])
CARD = json.loads((FOLDER / "card.json").read_text())
LABELS = CARD["labels"]
SIZE = (CARD["width"], CARD["height"])
THREADS = int(os.environ.get("BENCH_THREADS", "0"))
DECODER = os.environ.get("BENCH_DECODER", "pillow")


def session() -> onnxruntime.InferenceSession:
    """The model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    return onnxruntime.InferenceSession(FOLDER / "model.onnx", options, providers=["CPUExecutionProvider"])


def pixels(data: bytes) -> np.ndarray:
    """uint8 (height, width, 3)."""
    if DECODER == "ours":
        from contract import preprocessing

        image = preprocessing.open_header(data, max_pixels=preprocessing.MAX_PIXELS)
        return preprocessing.finish(image, SIZE[1], SIZE[0], CARD["resize_mode"])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize(SIZE))


def run(session: onnxruntime.InferenceSession, images: np.ndarray) -> list[dict[str, object]]:
    """The likeliest class of each image."""
    (probabilities,) = session.run(["probabilities"], {"images": images})
    best = probabilities.argmax(1)
    return [{"label": LABELS[i], "probability": float(p[i])} for i, p in zip(best, probabilities, strict=True)]
