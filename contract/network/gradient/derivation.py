"""The chain rule over a graph: from the gradient by its output, back to any tensor.

The backward pass is a part of the same ONNX model as the forward pass, so that it needs nothing but onnxruntime. It is
exact but where a function has a corner: a ReLU at zero counts as flat, and equal maxima share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from contract.network import sessions
from contract.network.errors import CannotExplain
from contract.network.gradient import elementwise, linear, windows
from contract.network.gradient.tape import RULES, Tape
from contract.network.graph import Array, Floats, Graph, Node

SEED: Final = "gradient/seed"
"""The input that says of which weighted sum of the output the gradient is taken, float32, in the output's shape."""

_PARTS = (elementwise, linear, windows)  # importing them registers their rules


def unsupported(graph: Graph, output: str, by: str) -> list[str]:
    """The operators between two tensors for which there is no rule, by name."""
    path = graph.between(graph.input, [output])
    reached = _descendants(path, by)
    return sorted({node.operator for node in path.nodes if set(node.outputs) & reached and _rule(node) is None})


def derive(graph: Graph, output: str, by: Sequence[str]) -> onnx.ModelProto:
    """A model that computes a tensor `of` and, under the names `gradient_name` gives, its gradient by tensors `by`.

    Its inputs are the graph's and `SEED`; its outputs are `of`, `by` and the gradients.

    Raises:
        CannotExplain: an operator between them has no rule; the message names all such.
    """
    part = graph.between(graph.input, [output])
    wanted = _descendants(part, *by)
    if output not in wanted:
        raise CannotExplain(f"{output!r} does not depend on {', '.join(map(repr, by))}")
    missing = sorted({node.operator for node in part.nodes if set(node.outputs) & wanted and _rule(node) is None})
    if missing:
        raise CannotExplain(f"there is no gradient of {', '.join(missing)}")
    tape = Tape(graph)
    gathered: dict[str, list[str]] = {output: [SEED]}
    for node in reversed(part.nodes):
        arriving = gathered.get(node.output)
        rule = _rule(node)
        if not arriving or rule is None or not set(node.inputs) & wanted:
            continue
        for place, gradient in rule(tape, node, _sum(tape, arriving)).items():
            if node.inputs[place] in wanted:
                gathered.setdefault(node.inputs[place], []).append(gradient)
    for name in by:
        if name not in gathered:
            raise CannotExplain(f"no gradient of {output!r} reaches {name!r}")
        total = _sum(tape, gathered[name])
        tape.nodes.append(helper.make_node("Identity", [total], [gradient_name(name)]))
    proto = part.to_proto([name for name in by if name != output])
    proto.graph.node.extend(tape.nodes)
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in tape.constants.items())
    proto.graph.input.append(helper.make_tensor_value_info(SEED, TensorProto.FLOAT, ["N", *graph.shapes[output][1:]]))
    proto.graph.output.extend(onnx.ValueInfoProto(name=gradient_name(name)) for name in by)
    return proto


def gradient_name(tensor: str) -> str:
    """What the gradient by a tensor is called."""
    return f"gradient/by/{tensor}"


class Gradient:
    """A backward pass that is ready to run.

    Args:
        graph: the forward pass.
        output: the tensor that is differentiated.
        by: the tensors that it can be differentiated by.
        threads: onnxruntime's.

    Raises:
        CannotExplain: as `derive` does.
    """

    def __init__(self, graph: Graph, output: str, by: Sequence[str], *, threads: int = 1) -> None:
        self.graph, self.of, self.by = graph, output, tuple(by)
        self._session = sessions.session(derive(graph, output, by), threads=threads)

    def __call__(self, values: Array, weights: Array, *by: str) -> tuple[Floats, list[Floats], list[Floats]]:
        """Run forward and backward.

        Args:
            values: of the graph's input, (N, ...).
            weights: what the entries of `of` count, (classes) or (N, classes).
            by: tensors; all where none is named.

        Returns:
            `of`, the tensors `by`, and its gradients by them.
        """
        names = by or self.by
        given = np.ascontiguousarray(values, np.float32)
        seed = np.broadcast_to(np.asarray(weights, np.float32), (len(given), *self.graph.shapes[self.of][1:]))
        inner = [name for name in names if name not in (self.graph.input, self.of)]
        outputs = [self.of, *inner, *map(gradient_name, names)]
        results = sessions.run(self._session, outputs, {self.graph.input: given, SEED: np.ascontiguousarray(seed)})
        values_of = {self.graph.input: given, **dict(zip(outputs, results, strict=True))}
        return results[0], [values_of[name] for name in names], [values_of[gradient_name(name)] for name in names]


def _rule(node: Node) -> Any:
    if node.domain:
        return None
    return RULES.get(node.operator)


def _descendants(graph: Graph, *tensors: str) -> set[str]:
    """Tensors and what is computed from them."""
    descendants = set(tensors)
    for node in graph.nodes:
        if descendants & set(node.inputs):
            descendants |= set(node.outputs[:1])
    return descendants


def _sum(tape: Tape, gradients: list[str]) -> str:
    if len(gradients) > 1:
        gradients[:] = [tape.op("Sum", *gradients)]
    return gradients[0]
