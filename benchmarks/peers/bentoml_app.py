"""BentoML with its adaptive batching on: `bentoml serve bentoml_app:Classifier`; BENCH_PROCESSES workers, or one."""

from __future__ import annotations

import os
from typing import Any

import bentoml
import model
import numpy as np
from PIL.Image import Image


@bentoml.service(traffic={"timeout": 60}, workers=int(os.environ["BENCH_PROCESSES"]) or 1)
class Classifier:
    """The batched method, and an endpoint for one image in front of it."""

    def __init__(self) -> None:
        self.session = model.session()

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=1000)
    def predict(self, file: list[Image]) -> list[dict[str, Any]]:
        """The likeliest class of each."""
        images = np.stack([np.asarray(image.convert("RGB").resize(model.SIZE)) for image in file])
        return model.run(self.session, images)
