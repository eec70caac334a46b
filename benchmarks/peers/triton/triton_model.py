"""Triton's Python backend, as its documentation has it, with onnxruntime; batches are the server's own."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as backend


class TritonPythonModel:
    """One instance, in a process of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["BENCH_THREADS"])
        path = os.path.join(os.environ["BENCH_BUNDLE"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """One batch."""
        tensors = [backend.get_input_tensor_by_name(request, "images").as_numpy() for request in requests]
        (rows,) = self.session.run(["probabilities"], {"images": np.concatenate(tensors)})
        parts = np.split(rows, np.cumsum([len(tensor) for tensor in tensors])[:-1])
        return [backend.InferenceResponse([backend.Tensor("probabilities", part)]) for part in parts]
