"""Factors and terms per channel, folded into the convolution before them.

tf2onnx does so for normalisations behind ordinary convolutions, and leaves a Mul and an Add behind depthwise ones. In
float32 they cost time; quantised, they would cost accuracy, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper


def fold(proto: onnx.ModelProto) -> int:
    """Fold each Mul and Add with constants, one a channel, into the Conv that it alone follows.

    Args:
        proto: changed in place.

    Returns:
        How many nodes are gone.
    """
    graph = proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    count, done = 0, False
    while not done:
        done = True
        users: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                users.setdefault(name, []).append(node)
        for conv in graph.node:
            following = users.get(conv.output[0], [])
            if conv.op_type != "Conv" or len(following) != 1 or conv.output[0] in outputs:
                continue
            (node,) = following
            constant = _constant(node, conv, constants)
            if constant is not None and _absorb(graph, conv, node.op_type, constant, constants):
                conv.output[0] = node.output[0]
                graph.node.remove(node)
                count, done = count + 1, False
                break
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
    return count


def _constant(
    node: onnx.NodeProto, conv: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
) -> npt.NDArray[Any] | None:
    """What a Mul or an Add brings to a convolution's output; None where the node is another, or its input varies."""
    if node.op_type not in ("Mul", "Add"):
        return None
    others = [name for name in node.input if name != conv.output[0]]
    if len(others) != 1 or others[0] not in constants:
        return None
    return np.asarray(numpy_helper.to_array(constants[others[0]]))


def _absorb(
    graph: onnx.GraphProto,
    conv: onnx.NodeProto,
    kind: str,
    constant: npt.NDArray[Any],
    constants: dict[str, onnx.TensorProto],
) -> bool:
    """Change a convolution's kernels and bias; False where the constant is not one number a channel."""
    if conv.input[1] not in constants or (len(conv.input) > 2 and conv.input[2] not in constants):
        return False
    kernels = numpy_helper.to_array(constants[conv.input[1]])
    channels = len(kernels)
    if constant.size not in (1, channels) or (constant.size > 1 and constant.shape[-3:-2] != (channels,)):
        return False
    flat = np.broadcast_to(constant.reshape(-1), channels)
    bias = np.zeros(channels, kernels.dtype)
    if len(conv.input) > 2:
        bias = numpy_helper.to_array(constants[conv.input[2]])
    if kind == "Mul":
        kernels, bias = kernels * flat.reshape(-1, *[1] * (kernels.ndim - 1)), bias * flat
    else:
        bias = bias + flat
    made = []
    for value, part in ((kernels, "kernels"), (bias, "bias")):  # new ones: others may use the old
        name = f"{conv.output[0]}/{part}/{kind}"
        constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        graph.initializer.append(constants[name])
        made.append(name)
    del conv.input[1:]
    conv.input.extend(made)
    return True
