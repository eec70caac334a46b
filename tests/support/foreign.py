"""Classifiers as others export them: small ONNX files of every shape that `kernelscope import` reads or refuses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from contract.preprocessing import Pixels

LABELS = ("red", "green", "blue")
SIZE = (8, 10)
_SEED = 7


def classifier(
    *,
    shape: Sequence[Any] = ("N", 3, *SIZE),
    layout: str = "nchw",
    end: str = "",
    classes: int = 3,
    dtype: TensorProto.DataType = TensorProto.FLOAT,
    names: tuple[str, str] = ("pixel_values", "scores"),
    opset: int = 17,
    flatten: str = "Flatten",
    channels: int = 3,
    keep_planes: bool = False,
    before: Sequence[onnx.NodeProto] = (),
    behind: Sequence[onnx.NodeProto] = (),
    outputs: Sequence[tuple[str, Sequence[Any]]] = (),
    constants: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    """A convolution, a mean over its maps and a dense layer, with weights that are the same each time.

    Args:
        shape: of the input.
        layout: `nchw`, or `nhwc`, from which it is transposed.
        end: an operator that makes the output of the logits; "" for none.
        classes: numbers that it gives.
        dtype: of all tensors.
        names: of the input and of the output.
        opset: of the operators.
        flatten: `Flatten`; or `Reshape 1`, as a batch of 1 is exported; or `Expand 1`, which no other batch fits.
        channels: of the input.
        keep_planes: whether the output is (N, classes, 1, 1).
        before: nodes from the input to `start`.
        behind, outputs, constants: further nodes, outputs and constants.
    """
    rng = np.random.default_rng(_SEED)
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    weights = {
        "kernel": rng.normal(0, 0.5, (4, channels, 3, 3)).astype(kind),
        "dense": rng.normal(0, 2, (4, classes)).astype(kind),
        "planes": rng.normal(0, 2, (classes, 4, 1, 1)).astype(kind),
        "bias": rng.normal(0, 1, classes).astype(kind),
        "shape": np.array([1, 4], np.int64),
        "zeros": np.zeros((1, 4), kind),
    }
    image, answer = names
    nodes = list(before)
    start = "start" if before else image
    if layout == "nhwc":
        nodes.append(helper.make_node("Transpose", [start], ["planar"], perm=[0, 3, 1, 2]))
        start = "planar"
    nodes += [
        helper.make_node("Conv", [start, "kernel"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
    ]
    last = answer if not end else "own_logits"
    if keep_planes:
        nodes.append(helper.make_node("Conv", ["pooled", "planes"], [last]))
    else:
        if flatten == "Reshape 1":
            nodes.append(helper.make_node("Reshape", ["pooled", "shape"], ["flat"]))
        else:
            nodes.append(helper.make_node("Flatten", ["pooled"], ["flat" if flatten == "Flatten" else "free"]))
        if flatten == "Expand 1":
            nodes.append(helper.make_node("Concat", ["free", "zeros"], ["both"], axis=0))
            nodes.append(helper.make_node("ReduceMax", ["both"], ["flat"], axes=[0], keepdims=1))
        nodes.append(helper.make_node("Gemm", ["flat", "dense", "bias"], [last]))
    if end:
        attributes: dict[str, Any] = {} if end == "Sigmoid" else {"axis": 1}
        nodes.append(helper.make_node(end, [last], [answer], **attributes))
    nodes += behind
    read = {name for node in nodes for name in node.input}
    given = [(answer, [shape[0] if shape else None, classes]), *outputs]
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info(image, dtype, shape)],
        [helper.make_tensor_value_info(name, dtype, None if keep_planes else sides) for name, sides in given],
        [*(numpy_helper.from_array(value, name) for name, value in weights.items() if name in read), *constants],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    made.producer_name, made.producer_version = "foreign", "1.0"
    return made


def save(model: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    """Write a model into a folder; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(model.SerializeToString())
    return folder / name


def write_labels(folder: Path, labels: Sequence[str] = LABELS, name: str = "labels.txt") -> Path:
    """Write class names, one a line; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    return folder / name


def noise(height: int = SIZE[0], width: int = SIZE[1], count: int = 9) -> Pixels:
    """Images of noise about colours that differ, uint8 (N, H, W, 3)."""
    rng = np.random.default_rng(1)
    colours = rng.uniform(0, 255, (count, 1, 1, 3))
    return np.clip(colours + rng.normal(0, 40, (count, height, width, 3)), 0, 255).astype(np.uint8)


def run(model: Path, values: np.ndarray, output: int = 0) -> np.ndarray:
    """What a file gives for values that are prepared already, one image at a time."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (image, *_) = session.get_inputs()
    return np.concatenate([session.run(None, {image.name: value[None]})[output] for value in values])
