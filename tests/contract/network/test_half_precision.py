"""Weights that are kept as float16 and computed with as float32."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from contract.network import half_precision

RNG = np.random.default_rng(0)
IMAGES = RNG.random((2, 8, 9, 9)).astype(np.float32)
WEIGHTS = RNG.normal(size=(3, 3, 8, 8)).astype(np.float32).transpose(3, 2, 0, 1)


def model(weights: np.ndarray) -> onnx.ModelProto:
    """A convolution with a bias."""
    bias = numpy_helper.from_array(np.full(8, 0.1, np.float32), "bias")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "weights", "bias"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8, 7, 7])],
        [numpy_helper.from_array(np.ascontiguousarray(weights), "weights"), bias],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def answers(proto: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (found,) = session.run(None, {"x": IMAGES})
    return np.asarray(found)


def test_the_file_has_half_the_bytes_and_the_answers_are_nearly_the_same() -> None:
    large = model(WEIGHTS)
    compact = half_precision.compact(large)
    assert len(compact.SerializeToString()) < 0.6 * len(large.SerializeToString())
    found, wanted = answers(compact), answers(large)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - wanted).max() < 2**-11 * np.abs(WEIGHTS).sum(axis=(1, 2, 3)).max()


def test_what_is_expanded_computes_what_the_compact_form_does() -> None:
    compact = half_precision.compact(model(WEIGHTS))
    expanded = half_precision.expand(compact)
    assert [node.op_type for node in expanded.graph.node] == ["Conv"]
    assert {tensor.data_type for tensor in expanded.graph.initializer} == {TensorProto.FLOAT}
    assert np.array_equal(answers(expanded), answers(compact))
    assert half_precision.expand(expanded) == expanded


def test_what_float16_cannot_hold_stays_as_it_is() -> None:
    large = WEIGHTS.copy()
    large[0, 0, 0, 0] = 1e6
    assert half_precision.compact(model(large)) == model(large)
