"""What `kernelscope import` refuses: one line each that says what does not fit and what would."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from tests.support import foreign
from tests.support.server import command
from training.importing import importer, labels
from training.importing.errors import CannotImport


def attempt(tmp_path: Path, model: onnx.ModelProto | bytes, **options: Any) -> str:
    """The message with which a model is refused; nothing may be left in the repository."""
    file = tmp_path / "model.onnx"
    file.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    chosen = importer.Options(
        **{"model": file, "labels": foreign.LABELS, "name": "pets", "output": tmp_path / "models", **options}
    )
    with pytest.raises(CannotImport) as refused:
        importer.run(chosen, Console(quiet=True))
    assert not (tmp_path / "models").exists()
    message = str(refused.value)
    assert "\n" not in message
    return message


def other_input(kind: int, shape: Any, name: str = "x") -> onnx.ModelProto:
    """A model with an input of any kind, which nothing is computed from."""
    graph = helper.make_graph(
        [helper.make_node("Shape", [name], ["sides"]), helper.make_node("Cast", ["sides"], ["y"], to=1)],
        "other",
        [helper.make_tensor_value_info(name, kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not an ONNX file, or holds no network"),
        (b"not a model", "is not an ONNX file"),
        (b"PK\x03\x04rest", "a zip archive, as PyTorch, Keras and TorchServe save models"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"\x80\x02}q", "pickle"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (foreign.classifier().SerializeToString()[:300], "is not an ONNX file"),
    ],
)
def test_what_is_no_onnx_file(tmp_path: Path, content: bytes, says: str) -> None:
    assert says in attempt(tmp_path, content)


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        (
            foreign.classifier(),
            {"labels": ("a", "b")},
            "tells 3 classes apart (output 'scores'), and the labels name 2",
        ),
        (foreign.classifier(), {"labels": tuple("abcd")}, "tells 3 classes apart"),
        (foreign.classifier(shape=("N", 3, "h", "w")), {}, "leaves the size open: add --size HxW"),
        (foreign.classifier(), {"size": (8, 11)}, "--size 8x11 does not fit input 'pixel_values'"),
        (foreign.classifier(shape=("N", 3, "h", "w")), {"size": (8, 5000)}, "a side has 1 to 4096 pixels"),
        (foreign.classifier(shape=("N", 3, "h", "w")), {"size": (0, 8)}, "a side has 1 to 4096 pixels"),
        (foreign.classifier(), {"layout": "nhwc"}, "--layout nhwc does not fit input 'pixel_values'"),
        (
            foreign.classifier(shape=("N", 4, 8, 10), channels=4),
            {},
            "neither its second axis (NCHW) nor its last (NHWC)",
        ),
        (foreign.classifier(), {"mean": (0.5,), "std": (0.5, 0.5, 0.5)}, "--mean has 1 numbers"),
        (foreign.classifier(), {"mean": (0.5,) * 3, "std": (0.5, 0.5)}, "--std has 2 numbers"),
        (foreign.classifier(), {"mean": (0.5,) * 3}, "--mean needs --std"),
        (foreign.classifier(), {"std": (0.5,) * 3}, "--std needs --mean"),
        (foreign.classifier(), {"mean": (0.5,) * 3, "std": (0.5, 0, 0.5)}, "--std has 0: a deviation is larger than 0"),
        (foreign.classifier(), {"mean": (0.5,) * 3, "std": (0.5, -1, 0.5)}, "--std has -1"),
        (foreign.classifier(), {"mean": (float("nan"),) * 3, "std": (0.5,) * 3}, "--mean must be finite"),
        (foreign.classifier(), {"value_range": (1.0, 0.0)}, "--range 1,0 does not rise"),
        (
            foreign.classifier(),
            {"value_range": (0.0, 1.0), "mean": (0.5,) * 3, "std": (0.5,) * 3},
            "--range does not go with --mean",
        ),
        (foreign.classifier(shape=("N", 1, 8, 10), channels=1), {"bgr": True}, "--bgr does not fit"),
        (foreign.classifier(end="Sigmoid"), {}, "ends in a Sigmoid of each class"),
        (
            other_input(TensorProto.INT64, ["N", 128], "input_ids"),
            {},
            "input 'input_ids', tensor(int64) (N, 128), is no image",
        ),
        (other_input(TensorProto.FLOAT, ["N", 784]), {}, "(N, 784), is no image: that has axes of batch"),
        (other_input(TensorProto.FLOAT, [224, 224, 3]), {}, "has no axis for the batch"),
        (other_input(TensorProto.FLOAT, ["N", 3, 16, 3]), {}, "may be read both ways: add --layout"),
        (other_input(TensorProto.FLOAT, ["N", None, None, None]), {}, "may be read both ways: add --layout"),
        (other_input(TensorProto.FLOAT, ["N", 3, 8, 10]), {}, "is no classifier"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, model: onnx.ModelProto, options: dict[str, Any], says: str) -> None:
    assert says in attempt(tmp_path, model, **options)


def test_a_model_that_scales_bytes_itself_is_not_guessed_at(tmp_path: Path) -> None:
    before = [helper.make_node("Div", ["pixel_values", "bytes"], ["start"])]
    model = foreign.classifier(before=before, constants=[numpy_helper.from_array(np.array(255, np.float32), "bytes")])
    assert "takes values of 0 to 255: add --range 0,255" in attempt(tmp_path, model)


def test_two_inputs(tmp_path: Path) -> None:
    model = foreign.classifier()
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["N"]))
    assert "has 2 inputs ('pixel_values' (N, 3, 8, 10), 'mask' (N))" in attempt(tmp_path, model)


def test_a_detector(tmp_path: Path) -> None:
    model = foreign.classifier(names=("x", "y"))
    model.graph.output.pop()
    model.graph.output.append(helper.make_tensor_value_info("maps", TensorProto.FLOAT, None))
    says = attempt(tmp_path, model)
    assert "is no classifier: no output has one number for each of 3 classes; it gives 'maps'" in says
    assert "Detection" in says


def test_operators_of_its_own(tmp_path: Path) -> None:
    model = foreign.classifier(behind=[helper.make_node("Foo", ["scores"], ["z"], domain="mmdeploy")])
    model.opset_import.append(helper.make_opsetid("mmdeploy", 1))
    assert "has operators of its own (mmdeploy::Foo)" in attempt(tmp_path, model)


def test_an_opset_that_onnxruntime_does_not_know(tmp_path: Path) -> None:
    assert "onnxruntime does not load" in attempt(tmp_path, foreign.classifier(opset=99))


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    model = foreign.classifier()
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "bias")
    bias.CopyFrom(numpy_helper.from_array(np.full(3, np.nan, np.float32), "bias"))
    assert "not finite: its weights are damaged" in attempt(tmp_path, model)


def test_answers_by_chance(tmp_path: Path) -> None:
    """As a dropout that is still active gives them."""
    behind = [
        helper.make_node("RandomUniformLike", ["scores"], ["chance"]),
        helper.make_node("Add", ["scores", "chance"], ["moved"]),
    ]
    model = foreign.classifier(behind=behind)
    model.graph.output[0].name = "moved"
    assert "differently each time: export it in inference mode" in attempt(tmp_path, model)


def test_answers_that_depend_on_the_batch(tmp_path: Path) -> None:
    """As a batch normalisation in training mode gives them."""
    behind = [
        helper.make_node("ReduceMean", ["scores"], ["middle"], axes=[0], keepdims=1),
        helper.make_node("Mul", ["middle", "two"], ["twice"]),
        helper.make_node("Add", ["scores", "twice"], ["moved"]),
    ]
    two = numpy_helper.from_array(np.array([[1, 2, 3]], np.float32), "two")
    model = foreign.classifier(behind=behind, constants=[two])
    model.graph.output[0].name = "moved"
    file = foreign.save(model, tmp_path)
    chosen = importer.Options(file, foreign.LABELS, "pets", tmp_path / "models")
    bundle = importer.run(chosen, Console(quiet=True))  # what each image gives by itself is kept
    assert bundle.card.training.original is not None
    assert bundle.card.training.original.batching == "one by one"


def test_a_fixed_batch_that_cannot_be_freed(tmp_path: Path) -> None:
    model = foreign.classifier(shape=(4, 3, 8, 10), flatten="Expand 1")
    model.graph.node[-1].input[0] = "free"
    zeros = numpy_helper.from_array(np.ones((4, 3), np.float32), "fixed")
    model.graph.initializer.append(zeros)
    model.graph.node.append(helper.make_node("Add", ["scores", "fixed"], ["moved"]))
    model.graph.output[0].name = "moved"
    assert "its batch is fixed at 4: export it with a free one" in attempt(tmp_path, model)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names 0 classes"),
        ("one\n", "names 1 classes"),
        ("a\n\nb\n", "has a blank line 2"),
        ("a\nb\na\n", "names 'a' twice, as classes 0 and 2"),
        ("\xff", "not UTF-8"),
        ('{"0": "a", "2": "b"}', "has no class 1"),
        ('{"0": "a", "1": ""}', "class 1 of"),
        ('["a", 3]', "class 1 of"),
        ('["a", ', "is not JSON"),
        ('{"id2label": 3}', "holds no names"),
    ],
)
def test_labels_that_do_not_fit(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "labels"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(CannotImport) as refused:
        labels.read(path)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\n", ("a", "b")),
        ("\ufeffa\r\nb b\r\n\n\n", ("a", "b b")),
        ('["a", "b"]', ("a", "b")),
        ('{"1": "b", "0": "a"}', ("a", "b")),
        ('{"0": ["n01", "a"], "1": ["n02", "b"]}', ("a", "b")),
        ('{"id2label": {"0": "a", "1": "b"}, "model_type": "vit"}', ("a", "b")),
    ],
)
def test_labels_in_every_form(tmp_path: Path, text: str, expected: tuple[str, ...]) -> None:
    (tmp_path / "labels").write_text(text, encoding="utf-8", newline="")
    assert labels.read(tmp_path / "labels") == expected


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("absent.onnx",), 1, "there is no file absent.onnx"),
        ((".",), 1, ". is a folder"),
        (("model.onnx", "--labels", "absent.txt"), 1, "the labels absent.txt cannot be read"),
        (("model.onnx", "--name", "../x"), 2, "cannot name a model"),
        (("model.onnx", "--size", "224"), 2, "write height x width"),
        (("model.onnx", "--mean", "a,b"), 2, "is not numbers"),
        (("model.onnx", "--range", "1"), 1, "--range has 1 numbers"),
        (("model.onnx", "--data", "absent"), 2, "there are no data at 'absent'"),
    ],
)
def test_the_command_says_so_in_one_line(tmp_path: Path, words: tuple[str, ...], code: int, says: str) -> None:
    foreign.save(foreign.classifier(), tmp_path)
    foreign.write_labels(tmp_path)
    defaults = ["--labels", "labels.txt", "--name", "pets", "--output", "models"]
    done = subprocess.run(
        command("import", *defaults, *words), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "models").exists()


def test_the_command_publishes_and_says_what_it_found(tmp_path: Path) -> None:
    foreign.save(foreign.classifier(end="Softmax"), tmp_path)
    (tmp_path / "index_to_name.json").write_text(json.dumps(dict(enumerate(foreign.LABELS))))
    words = ("model.onnx", "--labels", "index_to_name.json", "--name", "pets", "--output", "models", "--range=-1,1")
    done = subprocess.run(command("import", *words), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "input 'pixel_values': 8x10, NCHW, RGB, float32 -1 to 1" in done.stdout
    assert "output 'scores': 3 classes, as probabilities" in done.stdout
    assert "for 16 of 16 images" in done.stdout
    assert "published as models/pets/1" in done.stdout
