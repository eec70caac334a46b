"""Ray Serve with its batching on; BENCH_PROCESSES replicas, or one."""

from __future__ import annotations

import os
import signal
import sys

import model
import numpy as np
from ray import serve
from starlette.datastructures import UploadFile
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=256, num_replicas=int(os.environ["BENCH_PROCESSES"]) or 1)
class Classifier:
    """One replica."""

    def __init__(self) -> None:
        self.session = model.session()

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.002)
    async def classify(self, images: list[bytes]) -> list[dict[str, object]]:
        """The likeliest class of each."""
        return model.run(self.session, np.stack([model.pixels(image) for image in images]))

    async def __call__(self, request: Request) -> dict[str, object]:
        async with request.form() as form:
            file = form["file"]
            assert isinstance(file, UploadFile)
            return await self.classify(await file.read())


if __name__ == "__main__":
    serve.start(http_options={"port": int(sys.argv[1])})
    serve.run(Classifier.bind(), route_prefix="/predict")
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    serve.shutdown()
