"""What slides over a map: kernel, stride, padding, dilation, and the sizes that follow."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from contract.network.graph import Floats, Graph, Node


@dataclass(frozen=True)
class Window:
    """The window of a convolution or a pooling; one number for each of the sliding axes, rows first.

    Attributes:
        kernel, stride, dilation: in values of the input.
        before, after: the padding at either end.
        input, output: the sizes of the maps.
        ceil: whether the output's size is rounded up.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    input: tuple[int, ...]
    output: tuple[int, ...]
    ceil: bool = False

    @classmethod
    def of(cls, graph: Graph, node: Node) -> Window:
        """The window of a node; a global pooling's is as large as its input."""
        inputs, outputs = graph.shapes[node.inputs[0]][2:], graph.shapes[node.output][2:]
        rank = len(inputs)
        if node.operator.startswith("Global"):
            return cls(inputs, inputs, (1,) * rank, (0,) * rank, (0,) * rank, inputs, outputs)
        given = node.attributes
        kernel = tuple(given["kernel_shape"]) if "kernel_shape" in given else graph.shapes[node.inputs[1]][2:]
        stride = tuple(given.get("strides") or (1,) * rank)
        dilation = tuple(given.get("dilations") or (1,) * rank)
        pads = tuple(given.get("pads") or (0,) * 2 * rank)
        before, after = pads[:rank], pads[rank:]
        auto = given.get("auto_pad", b"NOTSET")
        if auto in (b"SAME_UPPER", b"SAME_LOWER"):
            totals = [
                max(0, (-(-m // s) - 1) * s + (k - 1) * d + 1 - m)
                for m, k, s, d in zip(inputs, kernel, stride, dilation, strict=True)
            ]
            small, large = tuple(p // 2 for p in totals), tuple(p - p // 2 for p in totals)
            before, after = (small, large) if auto == b"SAME_UPPER" else (large, small)
        elif auto == b"VALID":
            before = after = (0,) * rank
        return cls(kernel, stride, dilation, before, after, inputs, outputs, bool(given.get("ceil_mode", 0)))

    def span(self) -> tuple[int, ...]:
        """From a window's first value to its last, dilation included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def extent(self) -> tuple[int, ...]:
        """From the first value of the first window to the last value of the last."""
        return tuple((n - 1) * s + k for n, s, k in zip(self.output, self.stride, self.span(), strict=True))

    def border(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What must be added at either end for all windows to lie inside."""
        after = (max(0, e - b - m) for e, b, m in zip(self.extent(), self.before, self.input, strict=True))
        return self.before, tuple(after)

    def counts(self) -> Floats:
        """How many values of the input, padding left out, each window covers; (*output)."""
        axes = []
        for k, s, d, p, m, n in zip(
            self.kernel, self.stride, self.dilation, self.before, self.input, self.output, strict=True
        ):
            places = np.arange(n)[:, None] * s + np.arange(k) * d - p
            axes.append(((places >= 0) & (places < m)).sum(1))
        total = axes[0]
        for axis in axes[1:]:
            total = total[..., None] * axis
        return np.asarray(total, np.float32)

    def formula(self, axis: int) -> str:
        """(m + 2p - k) / s + 1 worked out for one axis, where k is the kernel's span, dilation included."""
        m, k, s = self.input[axis], self.span()[axis], self.stride[axis]
        b, a, n = self.before[axis], self.after[axis], self.output[axis]
        padding = f" + 2·{b}" if b == a else f" + {b} + {a}"
        exact = (m + a + b - k) % s == 0
        value = (m + a + b - k) / s + 1
        rounding = "" if exact else f" = {value:g}, rounded {'up' if self.ceil else 'down'}"
        return f"({m}{padding} - {k})/{s} + 1{rounding} = {n}"

    @property
    def area(self) -> int:
        """Values in a window."""
        return math.prod(self.kernel)
