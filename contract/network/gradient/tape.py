"""What the rules of differentiation write their nodes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from onnx import NodeProto, helper

from contract.network.graph import Array, Graph, Node

Rule = Callable[["Tape", Node, str], "dict[int, str]"]
"""Given a node and the gradient by its output, the gradients by its inputs, by their places."""

RULES: Final[dict[str, Rule]] = {}
"""By ONNX's name of the operator."""


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Register a rule for operators."""

    def register(given: Rule) -> Rule:
        RULES.update(dict.fromkeys(operators, given))
        return given

    return register


class Tape:
    """Nodes and constants of a backward pass, as they are written.

    Args:
        graph: the forward pass.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, Array] = {}

    def op(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Write a node; returns the name of its output."""
        name = f"gradient/{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def value(self, value: Any) -> str:
        """A float32 constant; returns its name."""
        return self._constant(np.asarray(value, np.float32))

    def integers(self, *values: int) -> str:
        """An int64 constant of one axis; returns its name."""
        return self._constant(np.asarray(values, np.int64))

    def _constant(self, value: Array) -> str:
        name = f"gradient/constant/{len(self.constants)}"
        self.constants[name] = value
        return name

    def shape(self, tensor: str) -> tuple[int, ...]:
        """The shape of a tensor of the forward pass, of two images."""
        return self.graph.shapes[tensor]

    def like(self, gradient: str, tensor: str) -> str:
        """A gradient in the shape of a tensor that has as many values."""
        return self.op("Reshape", gradient, self.op("Shape", tensor))

    def mask(self, condition: str) -> str:
        """A condition as 0.0 and 1.0."""
        return self.op("Cast", condition, to=1)

    def total(self, gradient: str, axes: Sequence[int]) -> str:
        """The sum over axes, which stay with a length of one."""
        return self.op("ReduceSum", gradient, self.integers(*axes), keepdims=1) if axes else gradient

    def unbroadcast(self, gradient: str, shape: tuple[int, ...], tensor: str) -> str:
        """A gradient of a shape summed to that of a tensor, which was broadcast to the shape."""
        own = self.shape(tensor)
        missing = len(shape) - len(own)
        aligned = (1,) * missing + own
        axes = [place for place, (ours, wide) in enumerate(zip(aligned, shape, strict=True)) if ours == 1 != wide]
        summed = self.total(gradient, axes)
        return self.like(summed, tensor) if missing else summed

    def part(
        self, tensor: str, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int] = ()
    ) -> str:
        """A slice."""
        steps = steps or (1,) * len(starts)
        return self.op(
            "Slice", tensor, self.integers(*starts), self.integers(*ends), self.integers(*axes), self.integers(*steps)
        )

    def padded(self, tensor: str, before: Sequence[int], after: Sequence[int], fill: float = 0.0) -> str:
        """A tensor with a border along each axis; the same tensor where there is none."""
        if not any((*before, *after)):
            return tensor
        return self.op("Pad", tensor, self.integers(*before, *after), self.value(fill))
