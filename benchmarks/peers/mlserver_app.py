"""MLServer with its batching on; BENCH_PROCESSES inference processes behind its REST server, its own number where 0.

Run as a script, it writes the two files of settings into a folder, and starts the server on that.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import model
import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

PROCESSES = int(os.environ["BENCH_PROCESSES"])


class Classifier(MLModel):
    """The model, for the Open Inference Protocol."""

    async def load(self) -> bool:
        """Open it."""
        self.session = model.session()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Probabilities."""
        images = NumpyCodec.decode_input(payload.inputs[0]).astype(np.uint8)
        probabilities = self.session.run(["probabilities"], {"images": images})[0]
        output = NumpyCodec.encode_output("probabilities", probabilities)
        return InferenceResponse(model_name=self.name, outputs=[output])


if __name__ == "__main__":
    port, name, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    workers = {"parallel_workers": PROCESSES} if PROCESSES else {}
    settings = {"http_port": int(port), "grpc_port": int(port) + 1, "metrics_port": int(port) + 2, "debug": False}
    (folder / "settings.json").write_text(json.dumps({**settings, **workers}))
    described = {
        "name": name,
        "implementation": "mlserver_app.Classifier",
        "max_batch_size": 32,
        "max_batch_time": 0.002,
    }
    (folder / "model-settings.json").write_text(json.dumps(described))
    os.execvp("mlserver", ["mlserver", "start", str(folder)])  # noqa: S606 -- of the environment that runs this
