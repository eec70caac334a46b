"""LitServe with its batching on; BENCH_PROCESSES workers, its own number where that is 0."""

from __future__ import annotations

import os
import sys

import litserve
import model
import numpy as np

PROCESSES = int(os.environ["BENCH_PROCESSES"])


class Classifier(litserve.LitAPI):
    """decode, batch, predict, unbatch, encode."""

    def setup(self, device: str) -> None:
        self.session = model.session()

    def decode_request(self, request):  # its server reads the annotation: none means a form or JSON
        return model.pixels(request["file"].file.read())

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.stack(inputs)

    def predict(self, x: np.ndarray) -> list[dict[str, object]]:
        return model.run(self.session, x)

    def unbatch(self, output: list[dict[str, object]]) -> list[dict[str, object]]:
        return output

    def encode_response(self, output: dict[str, object]) -> dict[str, object]:
        return output


if __name__ == "__main__":
    api = Classifier(max_batch_size=32, batch_timeout=0.002)
    options = {"workers_per_device": PROCESSES} if PROCESSES else {}
    litserve.LitServer(api, accelerator="cpu", **options).run(port=int(sys.argv[1]), generate_client_file=False)
