"""Weights in half of the bytes: float16 in the file, float32 in the computation.

The float32 form beside an int8 model explains what that one does; it is most of a bundle's bytes. Rounding its weights
to float16, by at most a 2,048th of each, changes its answers by less than int8's own rounding.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_FEWEST: Final = 256
"""Values of a tensor that is worth a node of its own."""
_SUFFIX: Final = "/float16"


def compact(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose large float32 constants are float16, each behind a node that casts it to float32.

    A constant with a value that float16 cannot hold stays as it is.

    Example:
        >>> weights = numpy_helper.from_array(np.ones((16, 16), np.float32), "w")
        >>> graph = helper.make_graph([], "g", [], [], [weights])
        >>> [node.op_type for node in compact(helper.make_model(graph)).graph.node]
        ['Cast']
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    casts = []
    for tensor in made.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < _FEWEST or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name + _SUFFIX))
        casts.append(helper.make_node("Cast", [name + _SUFFIX], [name], name=name + "/float32", to=TensorProto.FLOAT))
    nodes = [*casts, *made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def expand(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy without the casts of `compact`: its constants are float32.

    Example:
        >>> weights = numpy_helper.from_array(np.ones((16, 16), np.float32), "w")
        >>> model = helper.make_model(helper.make_graph([], "g", [], [], [weights]))
        >>> expand(compact(model)) == model
        True
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    constants = {tensor.name: tensor for tensor in made.graph.initializer if tensor.name.endswith(_SUFFIX)}
    kept = []
    for node in made.graph.node:
        if node.op_type == "Cast" and node.input[0] in constants:
            values = numpy_helper.to_array(constants[node.input[0]]).astype(np.float32)
            constants[node.input[0]].CopyFrom(numpy_helper.from_array(values, node.output[0]))
        else:
            kept.append(node)
    del made.graph.node[:]
    made.graph.node.extend(kept)
    return made
