"""`kernelscope import`: small files of every shape, each compared with what onnxruntime makes of it by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import kernelscope
from contract.bundle import INPUT, LOGITS, PROBABILITIES, Bundle
from contract.errors import KernelscopeError
from contract.network.form import Form
from contract.session import open_session
from tests.support import foreign
from tests.support.images import class_folder
from training.evaluation.calibrate import softmax

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LARGEST = 1e-5


def bundle_of(model: onnx.ModelProto, folder: Path, **options: Any) -> tuple[Path, Bundle]:
    file = foreign.save(model, folder)
    made = kernelscope.import_model(
        file, options.pop("labels", foreign.LABELS), name="pets", output=folder / "models", progress=False, **options
    )
    return file, made


def answers(bundle: Bundle, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    session = open_session(bundle, outputs=(PROBABILITIES, LOGITS))
    probabilities, logits = session.run([PROBABILITIES, LOGITS], {INPUT: images})
    return probabilities, logits


def prepared(images: np.ndarray, layout: str = "nchw") -> np.ndarray:
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    values: np.ndarray = (images / np.float32(255) - mean) / std
    return values.transpose(0, 3, 1, 2) if layout == "nchw" else values


@pytest.mark.parametrize(
    ("change", "options"),
    [
        ({}, {}),
        ({"layout": "nhwc", "shape": ("N", *foreign.SIZE, 3)}, {}),
        ({"shape": (1, 3, *foreign.SIZE)}, {}),
        ({"shape": (1, 3, *foreign.SIZE), "flatten": "Reshape 1"}, {}),
        ({"shape": (1, 3, *foreign.SIZE), "flatten": "Expand 1", "opset": 17}, {}),
        ({"shape": (None, None, None, None)}, {"size": foreign.SIZE}),
        ({"shape": ("b", "c", "h", "w"), "layout": "nhwc"}, {"size": foreign.SIZE}),
        ({"opset": 11}, {}),
        ({"opset": 8}, {}),
        ({"opset": 21}, {}),
        ({"names": ("images", "logits")}, {}),
        ({"names": ("x", "probabilities")}, {}),
        ({"names": ("probabilities", "images")}, {}),
        ({"keep_planes": True}, {}),
    ],
)
def test_logits_of_every_shape(tmp_path: Path, change: dict[str, Any], options: dict[str, Any]) -> None:
    file, bundle = bundle_of(foreign.classifier(**change), tmp_path, mean=MEAN, std=STD, **options)
    images = foreign.noise()
    expected = foreign.run(file, prepared(images, change.get("layout", "nchw"))).reshape(len(images), -1)
    probabilities, logits = answers(bundle, images)
    assert np.abs(logits - expected).max() < LARGEST
    assert np.abs(probabilities - softmax(expected)).max() < LARGEST
    assert len(set(probabilities.argmax(1))) > 1, "the images must differ for this to say something"
    assert bundle.card.cost.parity is not None
    assert bundle.card.cost.parity < LARGEST
    assert (bundle.card.height, bundle.card.width, bundle.card.labels) == (*foreign.SIZE, foreign.LABELS)


@pytest.mark.parametrize("end", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("planes", [False, True])
def test_a_softmax_at_the_end_is_not_done_twice(tmp_path: Path, end: str, planes: bool) -> None:
    file, bundle = bundle_of(foreign.classifier(end=end, keep_planes=planes), tmp_path, mean=MEAN, std=STD)
    images = foreign.noise()
    given = foreign.run(file, prepared(images)).reshape(len(images), -1)
    probabilities, logits = answers(bundle, images)
    assert np.abs(probabilities - (given if end == "Softmax" else np.exp(given))).max() < LARGEST
    assert np.abs(softmax(logits) - probabilities).max() < LARGEST
    plain, _ = bundle_of(foreign.classifier(keep_planes=planes), tmp_path / "plain", mean=MEAN, std=STD)
    own = foreign.run(plain, prepared(images)).reshape(len(images), -1)
    assert np.abs(logits - own).max() < LARGEST, "the logits are what the softmax reads"


def test_probabilities_without_a_softmax_are_known_by_their_sum(tmp_path: Path) -> None:
    behind = [
        helper.make_node("Exp", ["scores"], ["powers"]),
        helper.make_node("ReduceSum", ["powers", "axis"], ["sum"], keepdims=1),
        helper.make_node("Div", ["powers", "sum"], ["shares"]),
    ]
    model = foreign.classifier(behind=behind, constants=[numpy_helper.from_array(np.array([1]), "axis")])
    model.graph.output[0].name = "shares"
    file, bundle = bundle_of(model, tmp_path)
    images = foreign.noise()
    given = foreign.run(file, (images / np.float32(255)).transpose(0, 3, 1, 2))
    probabilities, _ = answers(bundle, images)
    assert np.abs(probabilities - given).max() < LARGEST
    original = bundle.card.training.original
    assert original is not None
    assert original.output == "shares: probabilities, without a Softmax"


@pytest.mark.parametrize("end", ["", "Sigmoid"])
def test_one_number_for_two_classes(tmp_path: Path, end: str) -> None:
    file, bundle = bundle_of(foreign.classifier(end=end, classes=1), tmp_path, labels=("no", "yes"))
    images = foreign.noise()
    given = foreign.run(file, (images / np.float32(255)).transpose(0, 3, 1, 2))[:, 0]
    yes = given if end else 1 / (1 + np.exp(-given))
    probabilities, _ = answers(bundle, images)
    assert np.abs(probabilities[:, 1] - yes).max() < LARGEST
    assert np.abs(probabilities[:, 0] - (1 - yes)).max() < LARGEST


@pytest.mark.parametrize(
    ("options", "prepare"),
    [
        ({}, lambda x: x / 255),
        ({"value_range": (0, 255)}, lambda x: x),
        ({"value_range": (-1, 1)}, lambda x: x / 127.5 - 1),
        ({"bgr": True, "mean": MEAN, "std": STD}, lambda x: (x[..., ::-1] / 255 - MEAN) / STD),
    ],
)
def test_values_are_prepared_as_was_said(tmp_path: Path, options: dict[str, Any], prepare: Any) -> None:
    file, bundle = bundle_of(foreign.classifier(), tmp_path, **options)
    images = foreign.noise()
    values = prepare(images.astype(np.float64)).transpose(0, 3, 1, 2).astype(np.float32)
    assert np.abs(answers(bundle, images)[0] - softmax(foreign.run(file, values))).max() < LARGEST


def test_grey_is_made_of_colours(tmp_path: Path) -> None:
    model = foreign.classifier(shape=("N", 1, *foreign.SIZE), channels=1)
    file, bundle = bundle_of(model, tmp_path, mean=(0.5,), std=(0.25,))
    grey = np.repeat(foreign.noise()[..., :1], 3, 3)
    values = ((grey[..., :1] / 255 - 0.5) / 0.25).transpose(0, 3, 1, 2).astype(np.float32)
    assert np.abs(answers(bundle, grey)[0] - softmax(foreign.run(file, values))).max() < LARGEST


def test_halves_and_doubles(tmp_path: Path) -> None:
    images = foreign.noise()
    before = [helper.make_node("Cast", ["pixel_values"], ["start"], to=TensorProto.FLOAT)]
    double = foreign.classifier(before=before)
    double.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    half = foreign.classifier(dtype=TensorProto.FLOAT16)
    for name, model, kind, most in (("half", half, np.float16, 2e-3), ("double", double, np.float64, LARGEST)):
        file, bundle = bundle_of(model, tmp_path / name)
        values = (images / np.float32(255)).transpose(0, 3, 1, 2).astype(kind)
        assert np.abs(answers(bundle, images)[0] - softmax(foreign.run(file, values))).max() < most
        assert bundle.card.cost.dtype == ("float16" if name == "half" else "float32")


def test_bytes_in(tmp_path: Path) -> None:
    """A model that takes uint8 scales it by itself."""
    before = [helper.make_node("Cast", ["pixel_values"], ["start"], to=TensorProto.FLOAT)]
    model = foreign.classifier(before=before)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    file, bundle = bundle_of(model, tmp_path)
    images = foreign.noise()
    assert np.abs(answers(bundle, images)[0] - softmax(foreign.run(file, images.transpose(0, 3, 1, 2)))).max() < LARGEST
    with pytest.raises(KernelscopeError, match="takes bytes, 0 to 255: leave out --mean, --std and --range"):
        bundle_of(model, tmp_path, mean=MEAN, std=STD)


def test_one_of_several_outputs(tmp_path: Path) -> None:
    behind = [
        helper.make_node("Neg", ["scores"], ["others"]),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=1),
    ]
    both = foreign.classifier(behind=behind, outputs=[("shares", ["N", 3]), ("pooled", None)])  # type: ignore[list-item]
    _, bundle = bundle_of(both, tmp_path)  # logits and their softmax are one answer
    assert bundle.card.training.original is not None
    assert bundle.card.training.original.output == "scores: logits"
    several = foreign.classifier(behind=behind, outputs=[("others", ["N", 3])])
    with pytest.raises(
        KernelscopeError, match=r"several outputs for 3 classes \('scores', 'others'\): add --output-name"
    ):
        bundle_of(several, tmp_path)
    file, bundle = bundle_of(several, tmp_path / "chosen", output_name="others")
    images = foreign.noise()
    given = foreign.run(file, (images / np.float32(255)).transpose(0, 3, 1, 2), 1)
    assert np.abs(answers(bundle, images)[1] - given).max() < LARGEST
    nodes = {node.op_type for node in onnx.load(bundle.model).graph.node}
    assert "Softmax" in nodes
    with pytest.raises(KernelscopeError, match="no output 'nothing': it has 'scores'"):
        bundle_of(several, tmp_path, output_name="nothing")


def test_weights_in_a_file_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    onnx.save(foreign.classifier(), file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    bundle = kernelscope.import_model(file, foreign.LABELS, name="pets", output=tmp_path / "models", progress=False)
    images = foreign.noise()
    given = foreign.run(file, (images / np.float32(255)).transpose(0, 3, 1, 2))
    assert np.abs(answers(bundle, images)[1] - given).max() < LARGEST
    assert not list(bundle.folder.glob("*.bin"))
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(KernelscopeError, match=r"weights of model\.onnx are in weights\.bin, which is not beside it"):
        kernelscope.import_model(file, foreign.LABELS, name="pets", output=tmp_path / "models", progress=False)


def test_calibration_and_score_on_labelled_images(tmp_path: Path) -> None:
    data = class_folder(tmp_path / "colours", each=40, size=(10, 8))
    pick = numpy_helper.from_array(10 * np.eye(3, dtype=np.float32), "pick")
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "pick"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [pick],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file, bundle = bundle_of(model, tmp_path, data=data)
    card = bundle.card
    assert card.accuracy.accuracy == 1
    assert card.temperature != 1
    assert card.accuracy.unsure is not None
    images = foreign.noise()
    logits = foreign.run(file, (images / np.float32(255)).transpose(0, 3, 1, 2))
    probabilities, raw = answers(bundle, images)
    assert np.abs(raw - logits).max() < LARGEST
    assert np.abs(probabilities - softmax(logits, card.temperature)).max() < LARGEST
    assert kernelscope.evaluate(bundle, data).accuracy == 1
    assert f"**{card.accuracy.accuracy:.2%}**" in (bundle.folder / "README.md").read_text()
    with pytest.raises(KernelscopeError, match="classes that the model does not know: blue"):
        bundle_of(model, tmp_path, data=data, labels=("red", "green", "azure"))


def test_versions_follow_one_another_and_the_same_is_not_published_twice(tmp_path: Path) -> None:
    _, first = bundle_of(foreign.classifier(), tmp_path)
    with pytest.raises(KernelscopeError, match="models/pets/1 is this model already"):
        bundle_of(foreign.classifier(), tmp_path)
    _, second = bundle_of(foreign.classifier(), tmp_path, value_range=(0, 255))
    assert (first.version, second.version) == (1, 2)
    assert sorted(path.name for path in (tmp_path / "models" / "pets").iterdir()) == ["1", "2"]


def test_the_card_says_what_it_was_made_of(tmp_path: Path) -> None:
    _, bundle = bundle_of(foreign.classifier(end="Softmax"), tmp_path, mean=MEAN, std=STD)
    original = bundle.card.training.original
    assert original is not None
    assert (original.file, original.producer, original.opset, original.batching) == (
        "model.onnx",
        "foreign 1.0",
        17,
        "any",
    )
    assert original.input == (
        "pixel_values: NCHW, RGB, float32 0 to 1 minus (0.485, 0.456, 0.406) by (0.229, 0.224, 0.225)"
    )
    assert original.output == "scores: probabilities"
    assert original.checksum
    assert (
        json.loads((bundle.folder / "card.json").read_text())["training"]["original"]["checksum"] == original.checksum
    )
    text = (bundle.folder / "README.md").read_text()
    assert "imported from | model.onnx" in text
    assert "not scored" in text


@pytest.mark.parametrize(
    ("change", "options"),
    [
        ({"layout": "nhwc", "shape": ("N", *foreign.SIZE, 3)}, {}),
        ({"shape": (1, 3, *foreign.SIZE), "flatten": "Reshape 1"}, {"bgr": True, "mean": MEAN, "std": STD}),
        ({"shape": ("N", 1, *foreign.SIZE), "channels": 1}, {}),
        ({"end": "LogSoftmax"}, {"value_range": (-1, 1)}),
        ({"classes": 1, "end": "Sigmoid"}, {"labels": ("no", "yes")}),
    ],
)
def test_gradients_reach_the_image(tmp_path: Path, change: dict[str, Any], options: dict[str, Any]) -> None:
    _, bundle = bundle_of(foreign.classifier(**change), tmp_path, **options)
    form = Form(bundle.model, bundle.card.labels)
    images = foreign.noise(count=2)
    logits = form.answers(images)[0]
    assert np.abs(logits - answers(bundle, images)[1]).max() < LARGEST
    seed = np.zeros_like(logits)
    seed[:, -1] = 1
    _, _, (gradient,) = form.gradient(images.astype(np.float32), seed, form.graph.input)
    assert gradient.shape == images.shape
    assert np.abs(gradient).max() > 0
