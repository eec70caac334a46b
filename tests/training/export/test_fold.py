from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from training.export.fold import fold


def model(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "some",
        [value("x", TensorProto.FLOAT, ["N", 4, 6, 6])],
        [value("y", TensorProto.FLOAT, ["N", 5, 6, 6])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(proto: onnx.ModelProto) -> object:
    x = np.random.default_rng(1).normal(size=(2, 4, 6, 6)).astype(np.float32)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": x})[0]


RNG = np.random.default_rng(0)
CONSTANTS = {
    "depthwise": RNG.normal(size=(4, 1, 3, 3)),
    "point": RNG.normal(size=(5, 4, 1, 1)),
    "bias": RNG.normal(size=5),
    "four": RNG.normal(size=(1, 4, 1, 1)),
    "five": RNG.normal(size=(5, 1, 1)),
    "one": np.array(0.5),
    "row": RNG.normal(size=(1, 1, 1, 6)),
}


def test_factors_and_terms_behind_convolutions_go_into_them() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "depthwise"], ["a"], group=4, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["a", "four"], ["b"]),
        helper.make_node("Add", ["four", "b"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "point", "bias"], ["e"]),
        helper.make_node("Add", ["e", "five"], ["f"]),
        helper.make_node("Mul", ["f", "one"], ["y"]),
    ]
    proto = model(nodes, CONSTANTS)
    before = run(proto)
    assert fold(proto) == 4
    assert [node.op_type for node in proto.graph.node] == ["Conv", "Relu", "Conv"]
    assert len(proto.graph.initializer) == 4  # what nothing uses any more is gone
    onnx.checker.check_model(proto)
    np.testing.assert_allclose(run(proto), before, rtol=1e-4, atol=1e-5)  # type: ignore[call-overload]


def test_what_is_no_number_a_channel_or_has_other_users_stays() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "point", "bias"], ["a"]),
        helper.make_node("Mul", ["a", "row"], ["b"]),  # along the width
        helper.make_node("Conv", ["x", "point"], ["c"]),
        helper.make_node("Mul", ["c", "five"], ["d"]),
        helper.make_node("Add", ["c", "d"], ["e"]),  # a second user of c
        helper.make_node("Add", ["b", "e"], ["y"]),
    ]
    proto = model(nodes, CONSTANTS)
    before = run(proto)
    assert fold(proto) == 0
    np.testing.assert_array_equal(run(proto), before)
