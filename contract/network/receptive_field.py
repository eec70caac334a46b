"""Which pixels a unit of a map depends on (Araujo et al. 2019, doi:10.23915/distill.00021)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from contract.network.graph import LAYOUT, Graph, Node
from contract.network.window import Window

Pair = tuple[int, int]

_WINDOWS: Final = frozenset({"Conv", "MaxPool", "AveragePool", "LpPool"})
_LOCAL: Final = LAYOUT | {
    "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Clip", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Softplus",
    "Erf", "Gelu", "Exp", "Log", "Sqrt", "Reciprocal", "Neg", "Abs", "Pow", "Add", "Sub", "Sum", "Mul", "Div", "Max",
    "Min", "BatchNormalization", "LRN", "Concat", "Softmax", "LogSoftmax", "LayerNormalization", "MatMul", "Gemm",
    "Mean", "Mish", "Swish", "ReduceMean", "ReduceMax", "ReduceSum", "ReduceMin", "ReduceL2",
}  # fmt: skip
"""Operators that mix no positions but those that they take together: `_collapsed` sees to these."""


@dataclass(frozen=True)
class Field:
    """The receptive fields of a map's units, rows first.

    Attributes:
        size: pixels on a side, those beyond the border included.
        jump: pixels from one unit's field to the next one's.
        origin: the first pixel of the first unit's field; negative where it begins in the padding.
        whole: whether each unit depends on the whole image whatever the numbers say.
    """

    size: Pair = (1, 1)
    jump: Pair = (1, 1)
    origin: Pair = (0, 0)
    whole: bool = False

    def region(self, row: int, column: int, image: Pair) -> tuple[int, int, int, int]:
        """The pixels of an image that a unit depends on: top, left, bottom, right; the last two are excluded."""
        if self.whole:
            return 0, 0, *image
        first = [start + place * jump for start, place, jump in zip(self.origin, (row, column), self.jump, strict=True)]
        last = [start + size for start, size in zip(first, self.size, strict=True)]
        top, left = (max(0, start) for start in first)
        bottom, right = (min(end, side) for end, side in zip(last, image, strict=True))
        return top, left, bottom, right

    def through(self, window: Window) -> Field:
        """The field of what a window computes from units of this one."""
        span, jump = window.span(), self.jump
        return replace(
            self,
            size=(self.size[0] + (span[0] - 1) * jump[0], self.size[1] + (span[1] - 1) * jump[1]),
            origin=(self.origin[0] - window.before[0] * jump[0], self.origin[1] - window.before[1] * jump[1]),
            jump=(jump[0] * window.stride[0], jump[1] * window.stride[1]),
        )

    def collapsed(self, rows: int, columns: int) -> Field:
        """The field of what takes so many rows and columns of units together."""
        size, jump = self.size, self.jump
        return replace(
            self,
            size=(size[0] + (rows - 1) * jump[0], size[1] + (columns - 1) * jump[1]),
            jump=(jump[0] * rows, jump[1] * columns),
        )

    def moved(self, rows: int, columns: int) -> Field:
        """The field of a map that begins so many units later."""
        return replace(self, origin=(self.origin[0] + rows * self.jump[0], self.origin[1] + columns * self.jump[1]))

    def joined(self, other: Field) -> Field:
        """The field of what depends on units of both."""
        if self.jump != other.jump:  # a mean over the map times the map itself, say
            finer = min(self, other, key=lambda field: field.jump)
            return replace(finer, whole=True)
        origin = min(self.origin[0], other.origin[0]), min(self.origin[1], other.origin[1])
        ends = [max(a + b, c + d) for a, b, c, d in zip(self.origin, self.size, other.origin, other.size, strict=True)]
        return Field((ends[0] - origin[0], ends[1] - origin[1]), self.jump, origin, self.whole or other.whole)


def fields(graph: Graph) -> dict[str, Field]:
    """The receptive field of each tensor that depends on the image."""
    by_tensor = {graph.input: Field()}
    for node in graph.nodes:
        before = [by_tensor[name] for name in dict.fromkeys(node.inputs) if name in by_tensor]
        if not before:
            continue
        field = before[0]
        for other in before[1:]:
            field = field.joined(other)
        by_tensor.update(dict.fromkeys(node.outputs, _after(graph, node, field)))
    return by_tensor


def _after(graph: Graph, node: Node, field: Field) -> Field:
    operator = node.operator
    if operator in _WINDOWS or operator.startswith("Global"):
        planes = len(graph.shapes[node.output]) == 4
        return field.through(Window.of(graph, node)) if planes else replace(field, whole=True)
    if operator in ("Pad", "Slice"):
        return _shifted(graph, node, field)
    if operator not in _LOCAL:
        return replace(field, whole=True)
    before, after = graph.size(graph.dynamic(node)[0]), graph.size(node.output)
    if before is None or len(graph.dynamic(node)) > 1:
        return field if after else replace(field, whole=True)
    if after is None:
        return replace(field, whole=True)
    rows, columns = (old if old != new else 1 for old, new in zip(before[:2], after[:2], strict=True))
    return field.collapsed(rows, columns)


def _shifted(graph: Graph, node: Node, field: Field) -> Field:
    roles = graph.roles.get(node.inputs[0])
    if roles is None:
        return replace(field, whole=True)
    moves = dict.fromkeys("HW", 0)
    first = graph.constant(node, 1)
    if first is None:
        return replace(field, whole=True)
    axes = graph.constant(node, 3) if node.operator == "Slice" else None
    for place, start in enumerate(first[: len(roles)] if axes is None else first):
        axis = place if axes is None else int(axes[place])
        side = graph.shapes[node.inputs[0]][axis]
        offset = -int(start) if node.operator == "Pad" else slice(int(start), None).indices(side)[0]
        if roles[axis] in moves:
            moves[roles[axis]] = offset
    return field.moved(moves["H"], moves["W"])
