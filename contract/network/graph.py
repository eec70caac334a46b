"""An ONNX graph as explanations use it: float nodes in order, constants as arrays, shapes, and axes by role."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from contract.network.errors import CannotExplain

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

LAYOUT: Final = frozenset({"Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
"""Operators that move values or name them anew, and change none."""
IMAGE_AXES: Final = ("N", "H", "W", "C")
PLANE_AXES: Final = ("N", "C", "H", "W")


@dataclass(frozen=True)
class Node:
    """A node of the float form.

    Attributes:
        operator: ONNX's name of what it does.
        domain: of the operator; "" for ONNX's own.
        name: the graph's own name of it.
        inputs: the tensors that it reads; "" for one that is left out.
        reads: the same as the served form names them, where a DequantizeLinear may stand between.
        outputs: the tensors that it gives.
        attributes: ONNX's attributes.
    """

    operator: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    reads: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(hash=False, compare=False)

    @property
    def output(self) -> str:
        """The first output."""
        return self.outputs[0]


@dataclass(frozen=True)
class Graph:
    """The float form of a model, or of a part of it; see `reading.read`.

    Attributes:
        nodes: in an order in which they can be computed.
        constants: by tensor.
        input: the tensor that it computes from, float32.
        outputs: the tensors that it gives.
        shapes: of each tensor, measured with two images.
        roles: the role of each tensor's axes, N, H, W or C; no entry where they are not known.
        opsets: domains and versions of the operators.
    """

    nodes: tuple[Node, ...]
    constants: dict[str, Array]
    input: str
    outputs: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    roles: dict[str, tuple[str, ...]]
    opsets: tuple[tuple[str, int], ...]

    @cached_property
    def producers(self) -> dict[str, Node]:
        """The node that gives a tensor."""
        return {name: node for node in self.nodes for name in node.outputs}

    @cached_property
    def consumers(self) -> dict[str, list[Node]]:
        """The nodes that read a tensor, in order."""
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers.setdefault(name, []).append(node)
        return readers

    def dynamic(self, node: Node) -> list[str]:
        """The inputs of a node that depend on the image."""
        return [name for name in node.inputs if name and name not in self.constants]

    def weights(self, node: Node, place: int) -> Array:
        """As `constant`, but there must be one."""
        value = self.constant(node, place)
        if value is None:
            raise CannotExplain(f"{node.operator} {node.name!r} lacks input {place}")
        return value

    def constant(self, node: Node, place: int) -> Array | None:
        """The constant that a node reads at a place; None where nothing is read there.

        Raises:
            CannotExplain: what it reads depends on the image.
        """
        name = node.inputs[place] if place < len(node.inputs) else ""
        if not name:
            return None
        if name not in self.constants:
            raise CannotExplain(f"input {place} of {node.operator} {node.name!r} depends on the image")
        return self.constants[name]

    def source(self, tensor: str) -> str:
        """The tensor that `tensor` has its values from, through nodes of `LAYOUT`."""
        while (node := self.producers.get(tensor)) and node.operator in LAYOUT:
            tensor = node.inputs[0]
        return tensor

    def reduced_axes(self, node: Node) -> tuple[int, ...]:
        """The axes, counted from the first, that a Squeeze takes away or a reduction reduces."""
        shape = self.shapes[node.inputs[0]]
        axes = node.attributes.get("axes")
        if axes is None:
            constant = self.constant(node, 1)
            axes = [] if constant is None else constant.tolist()
        if not axes:
            axes = [place for place, side in enumerate(shape) if node.operator != "Squeeze" or side == 1]
        return tuple(sorted(axis % len(shape) for axis in axes))

    def between(self, start: str, ends: Sequence[str]) -> Graph:
        """The part that computes tensors `ends` from tensor `start`.

        Raises:
            CannotExplain: they depend on the image in other ways, too.
        """
        needed, kept = set(ends) - {start}, []
        for node in reversed(self.nodes):
            if needed & set(node.outputs):
                kept.append(node)
                needed |= set(node.inputs) - {start}
        if self.input in needed - {start}:
            raise CannotExplain(f"{', '.join(ends)} depends on more of the image than {start!r}")
        constants = {name: self.constants[name] for name in needed if name in self.constants}
        return Graph(tuple(reversed(kept)), constants, start, tuple(ends), self.shapes, self.roles, self.opsets)

    def to_proto(self, outputs: Iterable[str] = ()) -> onnx.ModelProto:
        """The graph as an ONNX model of float32 input, with the tensors `outputs` as outputs beside its own."""
        nodes = [
            helper.make_node(
                node.operator, node.inputs, node.outputs, name=node.name, domain=node.domain, **node.attributes
            )
            for node in self.nodes
        ]
        proto = helper.make_graph(
            nodes,
            "float",
            [helper.make_tensor_value_info(self.input, TensorProto.FLOAT, ["N", *self.shapes[self.input][1:]])],
            [onnx.ValueInfoProto(name=name) for name in dict.fromkeys((*self.outputs, *outputs)) if name != self.input],
            [numpy_helper.from_array(np.asarray(value, order="C"), name) for name, value in self.constants.items()],
        )
        return helper.make_model(
            proto, opset_imports=[helper.make_opsetid(*opset) for opset in self.opsets], ir_version=8
        )

    def size(self, tensor: str) -> tuple[int, int, int] | None:
        """Rows, columns and channels of a tensor; None where its axes are not known."""
        roles, shape = self.roles.get(tensor), self.shapes.get(tensor)
        if roles is None or shape is None:
            return None
        rows, columns, channels = (shape[roles.index(role)] if role in roles else 1 for role in "HWC")
        return rows, columns, channels

    def as_images(self, tensor: str, values: Array) -> Array:
        """Values of a tensor as (N, rows, columns, channels).

        Raises:
            CannotExplain: its axes are not known.
        """
        roles = self.roles.get(tensor)
        if roles is None:
            raise CannotExplain(f"the axes of {tensor!r} are not known to be rows, columns and channels")
        moved = np.transpose(values, [roles.index(role) for role in IMAGE_AXES if role in roles])
        return moved.reshape([values.shape[roles.index(role)] if role in roles else 1 for role in IMAGE_AXES])

    def from_images(self, tensor: str, values: Array) -> Array:
        """The inverse of `as_images`: (N, rows, columns, channels) as the tensor has its axes."""
        roles = self.roles[tensor]
        kept: list[str] = [role for role in IMAGE_AXES if role in roles]
        flat = values.reshape([side for side, role in zip(values.shape, IMAGE_AXES, strict=True) if role in roles])
        return np.transpose(flat, [kept.index(role) for role in roles])
