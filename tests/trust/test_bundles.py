"""Hostile bundles: cards and models that a stranger put beside a good version. The good one goes on being served."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support.images import image
from tests.support.models import (
    ADMIN,
    ROTATED,
    colour_bundle,
    colour_model,
    damaged_bundle,
    greedy_bundle,
    looping_bundle,
    publish,
)
from tests.support.server import Server

LIVE_SECONDS = 0.4
_NUMBERS = itertools.count(3)


def _card(**changes: Any) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        path = folder / "card.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return write


def _text(text: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "card.json").write_bytes(text)


def _special(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return write


def _model(change: Callable[[onnx.ModelProto], object]) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        model = onnx.load(folder / "model.onnx")
        change(model)
        (folder / "model.onnx").write_bytes(model.SerializeToString())

    return write


def _external(location: str) -> Callable[[onnx.ModelProto], object]:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", "4")):
            tensor.external_data.add(key=key, value=value)

    return change


def _wide(model: onnx.ModelProto) -> None:
    """A constant of 400 GB, made when the model is loaded."""
    shape = numpy_helper.from_array(numpy_helper.to_array(model.graph.initializer[0]).reshape(1).astype("int64"), "x")
    shape.CopyFrom(helper.make_tensor("x", TensorProto.INT64, [1], [10**11]))
    model.graph.initializer.append(shape)
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["x"], ["wide"]))
    model.graph.node.append(helper.make_node("ReduceSum", ["wide"], ["whole"], keepdims=0))
    (matmul,) = (node for node in model.graph.node if node.output[0] == "logits")
    matmul.output[0] = "plain"
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    model.graph.node.remove(softmax)
    model.graph.node.append(helper.make_node("Add", ["plain", "whole"], ["logits"]))
    model.graph.node.append(softmax)


def _fixed_batch(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1


def _other(kind: int) -> Callable[[onnx.ModelProto], object]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = kind

    return change


def _unknown_operator(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.node[0].domain = "com.example"


def _long_chain(model: onnx.ModelProto) -> None:
    softmax = model.graph.node.pop()
    last = next(node for node in model.graph.node if node.output[0] == "logits")
    last.output[0] = "c0"
    nodes = [helper.make_node("Identity", [f"c{i}"], [f"c{i + 1}"]) for i in range(20_000)]
    model.graph.node.extend([*nodes, helper.make_node("Identity", ["c20000"], ["logits"]), softmax])


def _cyclic(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]


CARDS: dict[str, Callable[[Path], object]] = {
    "lists, a million deep": _text(b"[" * 1_000_000),
    "objects, a million deep": _text(b'{"labels":' * 1_000_000),
    "a number of a million digits": _text(b'{"height": ' + b"9" * 1_000_000 + b"}"),
    "30 MB of keys": _text(b"{" + b",".join(b'"k%d":0' % number for number in range(2_500_000)) + b"}"),
    "not UTF-8": _text(b"\xff\xfe{}"),
    "null": _text(b"null"),
    "a list": _text(b"[]"),
    "labels of half a surrogate pair": _text(b'{"name":"colours","labels":["\\ud800","a","b"],"height":8,"width":8}'),
    "labels that are numbers": _card(labels=[1, 2, 3]),
    "labels that are one string": _card(labels="abc"),
    "no labels": _card(labels=[]),
    "the same label twice": _card(labels=["a", "a", "b"]),
    "labels with line ends": _card(labels=["a\nkernelscope_requests_total 7", "b", "c"]),
    "a label of 1 MB": _card(labels=["a" * 1_000_000, "b", "c"]),
    "too many labels": _card(labels=["a", "b", "c", "d"]),
    "no height": _card(height=0),
    "a height below zero": _card(height=-8),
    "a height of a billion": _card(height=10**9, width=10**9),
    "a height beyond 64 bits": _card(height=10**30),
    "a height that is true": _card(height=True),
    "not a number for a temperature": _text(
        b'{"name":"colours","labels":["a","b","c"],"height":8,"width":8,"temperature":NaN}'
    ),
    "no temperature": _card(temperature=0),
    "a resize mode that does not exist": _card(resize_mode="explode"),
    "a format of the future": _card(format=99),
    "a recipe that is a number": _card(training={"recipe": 7}),
    "a name that climbs": _card(name="../../etc/passwd"),
    "a pipe": _special("card.json", os.mkfifo),
    "a folder": _special("card.json", os.mkdir),
    "an endless file": _special("card.json", lambda path: path.symlink_to("/dev/zero")),
    "a link to itself": _special("card.json", lambda path: path.symlink_to(path)),
}
MODELS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda folder: (folder / "model.onnx").write_bytes(b""),
    "junk": lambda folder: (folder / "model.onnx").write_bytes(os.urandom(100_000)),
    "a model that is cut off": lambda folder: os.truncate(folder / "model.onnx", 300),
    "a model of three other classes": lambda folder: (folder / "model.onnx").write_bytes(
        colour_model(classes=2).SerializeToString()
    ),
    "images of another size": lambda folder: (folder / "model.onnx").write_bytes(
        colour_model(16, 16).SerializeToString()
    ),
    "weights outside the folder": _model(_external("../../../../etc/passwd")),
    "weights at an absolute path": _model(_external("/etc/passwd")),
    "weights that are not there": _model(_external("weights.bin")),
    "a constant of 400 GB": _model(_wide),
    "images of floating point": _model(_other(TensorProto.FLOAT)),
    "images of text": _model(_other(TensorProto.STRING)),
    "a batch of one, always": _model(_fixed_batch),
    "an operator of nobody": _model(_unknown_operator),
    "a circle": _model(_cyclic),
    "20,000 operators in a row": _model(_long_chain),
    "a model that is a pipe": _special("model.onnx", os.mkfifo),
    "a model that is a folder": _special("model.onnx", os.mkdir),
    "a model that is endless": _special("model.onnx", lambda path: path.symlink_to("/dev/zero")),
}
MADE: dict[str, Callable[[Path], object]] = {
    "answers that are no numbers": lambda beside: damaged_bundle(beside, "colours"),
    "a run that does not end": lambda beside: looping_bundle(beside, "colours", above=-1),
    "a run of 60 GB": lambda beside: greedy_bundle(beside, gigabytes=60),
}
HARMLESS = {
    "labels with line ends",
    "a label of 1 MB",
    "a recipe that is a number",
    "20,000 operators in a row",
    "a name that climbs",
    "a batch of one, always",
}
"""These may be served or refused, but not bring anything down."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundles") / "models"
    colour_bundle(root)
    publish(root, 2, labels=ROTATED)
    return root


@pytest.fixture(scope="module")
def server(serve: Callable[..., Server], root: Path) -> Server:
    return serve(
        "--models",
        str(root),
        "--workers",
        "2",
        KERNELSCOPE_LOAD_TIMEOUT="8",
        KERNELSCOPE_ADMIN_KEY="secret",
        KERNELSCOPE_WATCH="0",
    )


@pytest.fixture
def version(root: Path) -> Iterator[int]:
    """A version that is not there yet, and is gone afterwards."""
    number = next(_NUMBERS)
    yield number
    shutil.rmtree(root / "colours" / str(number))


@pytest.mark.parametrize("kind", [*CARDS, *MODELS, *MADE])
def test_the_good_version_goes_on(server: Server, root: Path, version: int, tmp_path: Path, kind: str) -> None:
    if kind in MADE:
        MADE[kind](tmp_path / "beside")
    else:
        {**CARDS, **MODELS}[kind](colour_bundle(tmp_path / "beside").folder)
    (tmp_path / "beside" / "colours" / "1").rename(root / "colours" / str(version))
    with httpx.Client(base_url=server.url, headers=ADMIN, timeout=60) as client:
        reply = client.post("/v2/repository/models/colours/load", json={"parameters": {"version": str(version)}})
        assert reply.status_code < 500 or reply.status_code == 503, reply.text
        assert "Traceback" not in reply.text
        if kind not in HARMLESS:
            assert reply.status_code >= 400, reply.text
            assert len(reply.json()["error"]) < 1000
        live = client.get("/health/live")
        assert live.elapsed.total_seconds() < LIVE_SECONDS
        assert client.get("/health/ready").status_code == 200
        answer = client.post("/predict", content=image("red"))
        assert answer.status_code == 200
        if reply.status_code >= 400:
            assert (answer.json()["version"], answer.json()["label"]) == (2, "blue")
        for path in ("/models", "/models/colours", "/metrics", "/v2/repository/index", "/v1/models/colours"):
            assert client.request("POST" if "index" in path else "GET", path).status_code == 200, path
        metrics = client.get("/metrics").text
        assert "kernelscope_requests_total 7" not in metrics
        if reply.status_code < 400:
            client.post("/v2/repository/models/colours/load", json={"parameters": {"version": "2"}}).raise_for_status()


def test_a_start_beside_all_of_them(serve: Callable[..., Server], tmp_path: Path) -> None:
    root = tmp_path / "models"
    colour_bundle(root)
    for number, kind in enumerate({**CARDS, **MODELS}, 1):
        {**CARDS, **MODELS}[kind](colour_bundle(root, f"hostile-{number}").folder)
    server = serve("--models", str(root), "--model", "colours", KERNELSCOPE_LOAD_TIMEOUT="8")
    assert server.client.post("/predict?model=colours", content=image("red")).json()["label"] == "red"
    described = server.client.get("/models").json()
    assert len(described["refused"]) + len(described["ignored"]) >= len(CARDS) + len(MODELS) - len(HARMLESS)
    assert server.end() == 0
