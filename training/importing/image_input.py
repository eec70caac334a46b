"""Which input of a graph takes the image, and how: layout, channels and size, as far as the graph tells them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from onnx import helper, numpy_helper

from contract.card import LARGEST_SIDE
from training.importing.errors import CannotImport
from training.importing.preparation import Layout
from training.importing.source import Source

_TYPES: Final = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
}
_CHANNELS: Final = (1, 3)
_ALIKE: Final = frozenset(
    {
        "Cast", "Identity", "Dropout", "Sub", "Add", "Mul", "Div", "Clip", "Pad", "BatchNormalization",
        "QuantizeLinear", "DequantizeLinear",
    }
)  # fmt: skip
"""Operators that keep the axes of an image where they are."""
_ON_PLANES: Final = frozenset({"Conv", "QLinearConv", "ConvInteger", "MaxPool", "AveragePool"})
_TO_PLANES: Final = [0, 3, 1, 2]
_FROM_PLANES: Final = [0, 2, 3, 1]
_OWN_SCALING: Final = 1 / 50
"""A graph that begins by multiplying its input with less than this takes bytes, and scales them itself."""

Size = tuple[int, int]


@dataclass(frozen=True)
class ImageInput:
    """The input that takes the image.

    Attributes:
        name: of the tensor.
        dtype: NumPy's name of its type.
        layout: the order of its axes.
        channels: 3, or 1 for grey.
        height, width: in pixels.
        batch: how many images it takes at once; None for any number.
    """

    name: str
    dtype: str
    layout: Layout
    channels: int
    height: int
    width: int
    batch: int | None


def find(source: Source, layout: Layout | None = None, size: Size | None = None) -> ImageInput:
    """Find the input that takes the image, and what it expects.

    Args:
        source: the file.
        layout: what the user says; needed where the graph does not tell.
        size: height and width, the same.

    Raises:
        CannotImport: there is no such input, or more than one; it is no image; what the user says does not fit it;
            something is not told by the graph, and must be said.
    """
    value = _only(source)
    dims: list[int | None] = [dim if isinstance(dim, int) and dim > 0 else None for dim in value.shape]
    shown = f"input {value.name!r}, {value.type} {_shape(value.shape)},"
    if value.type not in _TYPES:
        raise CannotImport(f"{source.path}: {shown} is no image: images are float32, float16 or uint8")
    if len(dims) == 3 and {dims[0], dims[2]} & set(_CHANNELS):
        raise CannotImport(f"{source.path}: {shown} has no axis for the batch: export it with inputs of four axes")
    if len(dims) != 4:
        raise CannotImport(f"{source.path}: {shown} is no image: that has axes of batch, channels, height, width")
    order = _layout(source, value.name, dims, layout, shown)
    channels = dims[1 if order == "nchw" else 3] or _channels_by_graph(source, value.name) or 3
    if channels not in _CHANNELS or (channels == 1 and value.type == "tensor(uint8)"):
        raise CannotImport(
            f"{source.path}: {shown} has {channels} channels; images have 3 (colour), or 1 (grey, as floats)"
        )
    sides = (dims[2], dims[3]) if order == "nchw" else (dims[1], dims[2])
    height, width = _size(source, sides, size, shown)
    return ImageInput(value.name, _TYPES[value.type], order, channels, height, width, dims[0])


def own_scaling(source: Source, name: str) -> float | None:
    """The factor by which a graph scales its input itself, if it is one that only bytes need."""
    tensor = name
    while len(readers := source.consumers.get(tensor, [])) == 1:
        node = readers[0]
        constant = next((source.constants[other] for other in node.input if other in source.constants), None)
        if node.op_type in ("Mul", "Div") and constant is not None:
            factor = float(np.abs(numpy_helper.to_array(constant)).max())
            factor = 1 / factor if node.op_type == "Div" and factor else factor
            return factor if 0 < factor < _OWN_SCALING else None
        if node.op_type not in ("Cast", "Transpose", "Identity", "Sub", "Add"):
            return None
        tensor = node.output[0]
    return None


def _only(source: Source) -> Any:
    values = source.session.get_inputs()
    if len(values) == 1:
        return values[0]
    named = ", ".join(f"{value.name!r} {_shape(value.shape)}" for value in values) or "none"
    raise CannotImport(f"{source.path} has {len(values)} inputs ({named}); a classifier of images has one")


def _shape(shape: list[Any]) -> str:
    return "(" + ", ".join("?" if dim is None else str(dim) for dim in shape) + ")"


def _layout(source: Source, name: str, dims: list[int | None], given: Layout | None, shown: str) -> Layout:
    possible: list[Layout] = []
    if dims[1] is None or dims[1] in _CHANNELS:
        possible.append("nchw")
    if dims[3] is None or dims[3] in _CHANNELS:
        possible.append("nhwc")
    if not possible:
        raise CannotImport(
            f"{source.path}: {shown} is no image: neither its second axis (NCHW) nor its last (NHWC) is 3 or 1"
        )
    if given:
        if given not in possible:
            axis, place = ("second", 1) if given == "nchw" else ("last", 3)
            raise CannotImport(
                f"--layout {given} does not fit {shown} whose {axis} axis has {dims[place]}, not 3 channels or 1: "
                f"it is {possible[0]}"
            )
        return given
    by_graph = _layout_by_graph(source, name)
    if by_graph in possible:
        return by_graph
    if len(possible) > 1 and (dims[1] is None) != (dims[3] is None):  # free heights and widths, and fixed channels
        return "nhwc" if dims[1] is None else "nchw"
    if len(possible) > 1:
        raise CannotImport(f"{source.path}: {shown} may be read both ways: add --layout nchw (PyTorch) or nhwc (Keras)")
    return possible[0]


def _layout_by_graph(source: Source, name: str) -> Layout | None:
    """What the first node says that tells the axes apart: ONNX's convolutions and poolings take NCHW."""
    for tensor in _alike(source, name):
        for node in source.consumers.get(tensor, []):
            if node.op_type in _ON_PLANES and node.input[0] == tensor:
                return "nchw"
            if node.op_type == "Transpose":
                order = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), None)
                if order in (_TO_PLANES, _FROM_PLANES):
                    return "nhwc" if order == _TO_PLANES else "nchw"
    return None


def _channels_by_graph(source: Source, name: str) -> int | None:
    """The channels that the first convolution reads."""
    for tensor in _alike(source, name, through=("Transpose",)):
        for node in source.consumers.get(tensor, []):
            if node.op_type == "Conv" and node.input[0] == tensor and node.input[1] in source.constants:
                groups = next(
                    (
                        helper.get_attribute_value(attribute)
                        for attribute in node.attribute
                        if attribute.name == "group"
                    ),
                    1,
                )
                return int(source.constants[node.input[1]].dims[1]) * groups
    return None


def _alike(source: Source, name: str, through: tuple[str, ...] = ()) -> list[str]:
    """The tensors that have the values of an input, or some made of them one by one."""
    tensors = [name]
    for tensor in tensors:
        for node in source.consumers.get(tensor, []):
            if node.op_type in _ALIKE or node.op_type in through:
                tensors += [output for output in node.output if output and output not in tensors]
    return tensors


def _size(source: Source, sides: tuple[int | None, int | None], given: Size | None, shown: str) -> Size:
    if given is None:
        if None in sides:
            raise CannotImport(f"{source.path}: {shown} leaves the size open: add --size HxW, such as --size 224x224")
        given = (sides[0] or 0, sides[1] or 0)
    for side, wanted in zip(sides, given, strict=True):
        if side is not None and side != wanted:
            fixed = "x".join("?" if side is None else str(side) for side in sides)
            raise CannotImport(f"--size {given[0]}x{given[1]} does not fit {shown} which takes images of {fixed}")
    if not all(1 <= side <= LARGEST_SIDE for side in given):
        raise CannotImport(f"images of {given[0]}x{given[1]} do not fit: a side has 1 to {LARGEST_SIDE} pixels")
    return given
