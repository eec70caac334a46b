"""What a network expects of an image: layout, range, normalisation; as arithmetic and as ONNX nodes.

The two are written apart from each other, so that the parity check compares one with the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from contract.preprocessing import Pixels

Layout = Literal["nchw", "nhwc"]

LUMA: Final = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey (ITU-R BT.601), as Pillow converts to mode L."""
PREFIX: Final = "kernelscope"
"""What the names of nodes and tensors begin with that are put around a network."""
_TYPES: Final = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE}


@dataclass(frozen=True)
class Preparation:
    """How pixels, uint8 (N, H, W, 3) RGB, become a network's input.

    Attributes:
        height, width: in pixels.
        channels: 3, or 1 for grey.
        layout: the order of the axes.
        dtype: NumPy's name of the input's type; of `uint8`, values stay as they are.
        low, high: what black and white become before mean and deviation.
        mean, std: by channel, in the network's own order: (value - mean) / std.
        bgr: whether the network takes blue first.
    """

    height: int
    width: int
    channels: int
    layout: Layout
    dtype: str = "float32"
    low: float = 0.0
    high: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    bgr: bool = False

    def array(self, pixels: Pixels) -> npt.NDArray[Any]:
        """The network's input for pixels, by NumPy."""
        if self.dtype == "uint8":
            values: npt.NDArray[Any] = pixels
        else:
            values = pixels.astype(np.float32)
            if self.channels == 1:
                values = (values @ np.array(LUMA, np.float32))[..., None]
        if self.bgr:
            values = values[..., ::-1]
        if self.dtype != "uint8":
            if (self.low, self.high) == (0, 1):
                values = values / np.float32(255)
            elif (self.low, self.high) != (0, 255):
                values = values * np.float32((self.high - self.low) / 255) + np.float32(self.low)
            if self.mean:
                values = values - np.array(self.mean, np.float32)
            if self.std:
                values = values / np.array(self.std, np.float32)
        values = values.transpose(0, 3, 1, 2) if self.layout == "nchw" else values
        return np.ascontiguousarray(values, self.dtype)

    def nodes(self, images: str, output: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """The same as ONNX nodes and their constants.

        Args:
            images: the tensor of pixels, uint8 (N, H, W, 3).
            output: the tensor that the network reads.
        """
        steps: list[tuple[str, npt.NDArray[np.float32] | None, dict[str, Any]]] = []
        if self.dtype != "uint8" or self.bgr:
            steps.append(("Cast", None, {"to": TensorProto.FLOAT}))
        if self.channels == 1:
            steps.append(("MatMul", np.array(LUMA, np.float32)[:, None], {}))
        if self.bgr:  # a permutation as a matrix, which has a gradient
            steps.append(("MatMul", np.eye(3, dtype=np.float32)[::-1], {}))
        if self.dtype != "uint8":
            steps += self._scaling()
        if self.dtype == "uint8" and self.bgr:
            steps.append(("Cast", None, {"to": TensorProto.UINT8}))
        if self.layout == "nchw":
            steps.append(("Transpose", None, {"perm": [0, 3, 1, 2]}))
        if self.dtype in ("float16", "float64"):
            steps.append(("Cast", None, {"to": _TYPES[self.dtype]}))
        made: list[onnx.NodeProto] = []
        constants: list[onnx.TensorProto] = []
        for place, (operator, constant, attributes) in enumerate(steps or [("Identity", None, {})]):
            inputs = [made[-1].output[0] if made else images]
            if constant is not None:
                constants.append(numpy_helper.from_array(constant, f"{PREFIX}/constant{place}"))
                inputs.append(constants[-1].name)
            is_last = place == max(len(steps), 1) - 1
            name = f"{PREFIX}/{operator.lower()}{place}"
            made.append(helper.make_node(operator, inputs, [output if is_last else name], name=name, **attributes))
        return made, constants

    def _scaling(self) -> list[tuple[str, npt.NDArray[np.float32] | None, dict[str, Any]]]:
        steps: list[tuple[str, npt.NDArray[np.float32] | None, dict[str, Any]]] = []
        if (self.low, self.high) == (0, 1):
            steps.append(("Div", np.array(255, np.float32), {}))
        elif (self.low, self.high) != (0, 255):
            steps.append(("Mul", np.array((self.high - self.low) / 255, np.float32), {}))
            steps.append(("Add", np.array(self.low, np.float32), {}))
        if any(self.mean):
            steps.append(("Sub", np.array(self.mean, np.float32), {}))
        if any(value != 1 for value in self.std):
            steps.append(("Div", np.array(self.std, np.float32), {}))
        return steps

    def describe(self) -> str:
        """In words, for the terminal and the card."""
        colours = "grey" if self.channels == 1 else "BGR" if self.bgr else "RGB"
        text = f"{self.layout.upper()}, {colours}, "
        if self.dtype == "uint8":
            return f"{text}uint8 0 to 255"
        text += f"{self.dtype} {self.low:g} to {self.high:g}"
        if self.mean:
            numbers = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
            text += " minus ({}) by ({})".format(*numbers)
        return text
