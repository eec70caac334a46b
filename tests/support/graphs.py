"""Small ONNX models, node by node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from contract.network import reading
from contract.network.graph import Graph

NodeSpec = tuple[str, Sequence[Any], str | Sequence[str], dict[str, Any]]
"""An operator, its inputs (names, or arrays that are constants), its outputs, and its attributes."""


def proto(shape: Sequence[int], nodes: Sequence[NodeSpec], output: str = "y", *, opset: int = 17) -> onnx.ModelProto:
    """A model from float32 `images`, (N, *shape), to one output."""
    constants: list[onnx.TensorProto] = []

    def name(value: Any) -> str:
        if isinstance(value, str):
            return value
        constants.append(numpy_helper.from_array(np.asarray(value), f"constant{len(constants)}"))
        return constants[-1].name

    made = []
    for operator, inputs, out, attributes in nodes:
        outputs = [out] if isinstance(out, str) else out
        made.append(helper.make_node(operator, [name(value) for value in inputs], outputs, **attributes))
    graph = helper.make_graph(
        made,
        "test",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", *shape])],
        [onnx.ValueInfoProto(name=output)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def graph(shape: Sequence[int], nodes: Sequence[NodeSpec], output: str = "y", *, opset: int = 17) -> Graph:
    """`proto`, read."""
    return reading.read(proto(shape, nodes, output, opset=opset))
