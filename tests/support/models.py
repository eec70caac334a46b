"""What tests make for themselves: a real ONNX model that tells colours apart, its bundle, and images."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
import timeit
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from contract import bundle
from contract.card import Card

COLOURS = ("red", "green", "blue")
ADMIN = {"Authorization": "Bearer secret"}
ROTATED = ("blue", "red", "green")
"""Labels of another version, by which its answers are known: to it, a red image is blue."""


def colour_model(height: int = 8, width: int = 8, *, classes: int = 3) -> onnx.ModelProto:
    """The mean of each channel, in [0, 10], is the logit of its colour."""
    scale = numpy_helper.from_array(np.array(10 / 255, np.float32), "scale")
    axes = numpy_helper.from_array(np.array([1, 2], np.int64), "axes")
    pick = numpy_helper.from_array(np.eye(3, classes, dtype=np.float32), "pick")
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "pick"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", height, width, 3])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", classes]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes]),
        ],
        [scale, axes, pick],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def colour_bundle(root: Path, name: str = "colours", version: int = 1, **card: Any) -> bundle.Bundle:
    """A bundle of `colour_model` in a repository."""
    folder = root / name / str(version)
    folder.mkdir(parents=True)
    fields = {"labels": COLOURS, "height": 8, "width": 8, **card}
    model = colour_model(fields["height"], fields["width"], classes=len(fields["labels"]))
    (folder / bundle.MODEL).write_bytes(model.SerializeToString())
    (folder / bundle.CARD).write_text(_of_its_time(Card(name=name, **fields).to_json()))
    return bundle.read(folder)


def _of_its_time(card: str) -> str:
    """A card that an older checkout reads, where KERNELSCOPE_TRUST_CHECKOUT names one; see `tests.support.server`."""
    if "KERNELSCOPE_TRUST_CHECKOUT" not in os.environ:
        return card
    values = json.loads(card)
    mode = values.pop("resize_mode")
    return json.dumps({**values, "format": 1, "fit": mode})


def float32_bundle(int8: Path, folder: Path) -> Path:
    """A bundle of the float32 form that stands beside an int8 one; returns its folder."""
    found = bundle.read(int8)
    assert found.float32
    folder.mkdir(parents=True)
    shutil.copy(found.float32, folder / bundle.MODEL)
    card = dataclasses.replace(found.card, cost=dataclasses.replace(found.card.cost, dtype="float32"))
    (folder / bundle.CARD).write_text(card.to_json())
    return folder


def damaged_bundle(root: Path, name: str = "damaged") -> bundle.Bundle:
    """As `colour_bundle`, but its logits are not finite."""
    colours = colour_bundle(root, name)
    model = onnx.load(colours.model)
    (scale,) = (tensor for tensor in model.graph.initializer if tensor.name == "scale")
    scale.CopyFrom(numpy_helper.from_array(np.array(np.nan, np.float32), "scale"))
    colours.model.write_bytes(model.SerializeToString())
    return colours


@cache
def _product_seconds(side: int) -> float:
    """Seconds of the processor, which other work does not stretch, that onnxruntime takes for a product of matrices."""
    square = [side, side]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "x"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, square)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, square)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # so that this thread does all of it
    run = onnxruntime.InferenceSession(model.SerializeToString(), options).run
    feed = {"x": np.ones((side, side), np.float32)}
    return min(timeit.repeat(lambda: run(None, feed), number=1, repeat=5, timer=time.thread_time))


def slow_bundle(root: Path, name: str = "slow", *, seconds: float = 0.5) -> bundle.Bundle:
    """As `colour_bundle`, but each run first multiplies large matrices: for about that long on an image of a colour.

    Once on a grey image, as warming runs it: too long for the event loop, and no test waits for its server to be warm.
    """
    colours = colour_bundle(root, name)
    model = onnx.load(colours.model)
    side = 1000
    rounds = max(4, round(seconds / _product_seconds(side)))
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["condition"], ["goes_on"]),
            helper.make_node("MatMul", ["matrix", "matrix"], ["product"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("matrix", TensorProto.FLOAT, [side, side]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("product", TensorProto.FLOAT, [side, side]),
        ],
    )
    nodes = [
        helper.make_node("ReduceMax", ["float"], ["brightest"], keepdims=0),
        helper.make_node("Greater", ["brightest", "grey"], ["is_coloured"]),
        helper.make_node("Where", ["is_coloured", "rounds", "one"], ["times"]),
        helper.make_node("ReduceMean", ["scaled"], ["all"], keepdims=0),
        helper.make_node("Mul", ["all", "tiny"], ["small"]),  # products of such matrices stay finite
        helper.make_node("Expand", ["small", "square"], ["first"]),
        helper.make_node("Loop", ["times", "", "first"], ["last"], body=body),
        helper.make_node("ReduceMax", ["last"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "zero"], ["nothing"]),
        helper.make_node("Add", ["plain", "nothing"], ["logits"]),
    ]
    graph = model.graph
    matmul = next(node for node in graph.node if node.output[0] == "logits")
    matmul.output[0] = "plain"
    softmax = graph.node.pop()
    graph.node.extend([*nodes, softmax])
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(1e-4, np.float32), "tiny"),
            numpy_helper.from_array(np.array(0, np.float32), "zero"),
            numpy_helper.from_array(np.array(200, np.float32), "grey"),
            numpy_helper.from_array(np.array(rounds, np.int64), "rounds"),
            numpy_helper.from_array(np.array(1, np.int64), "one"),
            numpy_helper.from_array(np.array([side, side], np.int64), "square"),
        ]
    )
    colours.model.write_bytes(model.SerializeToString())
    return colours


def publish(root: Path, version: int, **card: object) -> None:
    """As `repository.publish` does: made beside, then renamed."""
    beside = colour_bundle(root.parent / f"beside-{version}", "colours", version, **card)
    shutil.move(beside.folder, root / "colours" / str(version))


def looping_bundle(root: Path, name: str = "looping", version: int = 1, *, above: int = 200) -> bundle.Bundle:
    """As `colour_bundle`, but its run loops for hours on an image with a value above `above`; -1: on every image."""
    made = colour_bundle(root, name, version)
    model = onnx.load(made.model)
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["condition"], ["goes_on"]),
            helper.make_node("Add", ["sum", "sum"], ["next_sum"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next_sum", TensorProto.FLOAT, []),
        ],
    )
    nodes = [
        helper.make_node("ReduceMax", ["float"], ["highest"], keepdims=0),
        helper.make_node("Greater", ["highest", "above"], ["loops"]),
        helper.make_node("Loop", ["rounds", "loops", "zero"], ["looped"], body=body),
        helper.make_node("Add", ["plain", "looped"], ["logits"]),
    ]
    graph = model.graph
    matmul = next(node for node in graph.node if node.output[0] == "logits")
    matmul.output[0] = "plain"
    softmax = graph.node.pop()
    graph.node.extend([*nodes, softmax])
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(above, np.float32), "above"),
            numpy_helper.from_array(np.array(0, np.float32), "zero"),
            numpy_helper.from_array(np.array(2**40, np.int64), "rounds"),
        ]
    )
    made.model.write_bytes(model.SerializeToString())
    return made


def greedy_bundle(root: Path, name: str = "colours", version: int = 1, *, gigabytes: float = 1) -> bundle.Bundle:
    """As `colour_bundle`, but each run fills that much memory."""
    made = colour_bundle(root, name, version)
    model = onnx.load(made.model)
    side = int((gigabytes * 2**30 / 4) ** 0.5)
    graph = model.graph
    matmul = next(node for node in graph.node if node.output[0] == "logits")
    matmul.output[0] = "plain"
    softmax = graph.node.pop()
    graph.node.extend(
        [
            helper.make_node("ReduceMean", ["scaled"], ["level"], keepdims=0),
            helper.make_node("Expand", ["level", "square"], ["large"]),
            helper.make_node("ReduceMax", ["large"], ["most"], keepdims=0),
            helper.make_node("Mul", ["most", "zero"], ["nothing"]),
            helper.make_node("Add", ["plain", "nothing"], ["logits"]),
            softmax,
        ]
    )
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(0, np.float32), "zero"),
            numpy_helper.from_array(np.array([side, side], np.int64), "square"),
        ]
    )
    made.model.write_bytes(model.SerializeToString())
    return made
