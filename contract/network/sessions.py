"""onnxruntime sessions for explanations: one thread, no memory kept between runs, any tensor as an output."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnxruntime

from contract.network.graph import Array


def session(model: onnx.ModelProto | bytes, *, literal: bool = False, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session that gives memory back after each run.

    Args:
        model: the model.
        literal: whether it computes node by node. Otherwise onnxruntime merges nodes, and rounds constants near
            QuantizeLinear anew.
        threads: for one run.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.enable_cpu_mem_arena = False
    if literal:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, outputs: Sequence[str], feeds: dict[str, Array]) -> list[Array]:
    """Compute `outputs` and what they need, and nothing else."""
    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = True
    values: list[Array] = session.run(list(outputs), feeds, options)
    return values
