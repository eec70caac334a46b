"""Weights between those of two models: colours, of which each model takes another one for wrong."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from rich.console import Console

from contract import bundle
from contract.bundle import Bundle
from contract.card import Cost
from contract.errors import UsageError
from kernelscope.cli import main
from tests.support.images import class_folder
from tests.support.models import COLOURS, colour_bundle
from training.data import dataset as datasets
from training.evaluation import evaluate
from training.evaluation.calibrate import softmax, temperature, unsmoothed
from training.export import interpolate, model_file


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folder(tmp_path_factory.mktemp("data") / "colours", each=40, size=(8, 8))


def published(root: Path, data: Path, version: int, *weights: float) -> Bundle:
    """A float32 bundle that was trained on these images, whose logits are the mean colours times these weights."""
    described = datasets.load(str(data)).describe()
    made = colour_bundle(root, "colours", version, data=described, cost=Cost(dtype="float32"))
    proto = onnx.load(made.model)
    (pick,) = (tensor for tensor in proto.graph.initializer if tensor.name == "pick")
    pick.CopyFrom(numpy_helper.from_array(np.diag(np.array(weights, np.float32)), "pick"))
    made.model.write_bytes(proto.SerializeToString())
    return made


@pytest.fixture
def base(tmp_path: Path, data: Path) -> Bundle:
    return published(tmp_path / "models", data, 1, 1, 1, -0.5)


@pytest.fixture
def tuned(tmp_path: Path, data: Path) -> Bundle:
    return published(tmp_path / "models", data, 2, 1, -0.5, 1)


def test_the_best_mixture_is_published(base: Bundle, tuned: Bundle, data: Path, tmp_path: Path) -> None:
    said = io.StringIO()
    output = tmp_path / "models"
    made = interpolate.run(base, tuned, str(data), output, Console(file=said, width=200), command="the command")
    assert made.folder == output / "colours" / "3"
    training = made.card.training
    assert training.interpolated_by == "the command"
    assert training.interpolated_share is not None
    assert 0.3 < training.interpolated_share < 0.7
    assert made.card.accuracy.accuracy == 1
    assert made.card.labels == COLOURS
    lines = said.getvalue().splitlines()
    assert sum("as JPEG 75" in line for line in lines) == len(interpolate.SHARES)
    assert next(line for line in lines if "the best" in line).startswith(f"{training.interpolated_share:4.0%}")
    loaded = bundle.read(made.folder)
    images = datasets.load(str(data)).validation.images
    logits = evaluate.predict_logits(loaded, images)
    _, probabilities = evaluate.predict(loaded, images)
    assert np.allclose(probabilities, softmax(logits, made.card.temperature), atol=1e-5)
    judges = datasets.load_for(made.card, str(data)).validation.with_jpeg(interpolate.QUALITY)
    fitted = temperature(evaluate.predict_logits(loaded, judges.images), judges.targets)
    assert made.card.temperature == pytest.approx(fitted, rel=1e-3)


def test_models_of_different_calibrations_are_mixed(base: Bundle, tuned: Bundle, data: Path, tmp_path: Path) -> None:
    """As one that was published before label smoothing was taken back, and one that was trained from it since."""
    proto = onnx.load(tuned.model)
    model_file.set_calibration(proto, 2.0, 0.2)
    card = dataclasses.replace(tuned.card, temperature=2.0, label_smoothing=0.2)
    tuned = model_file.write(proto, card, tuned.folder)
    made = interpolate.run(base, tuned, str(data), tmp_path / "models", Console(file=io.StringIO()))
    assert made.card.label_smoothing == 0.2
    images = datasets.load(str(data)).validation.images
    logits, probabilities = evaluate.predict(made, images)
    assert np.allclose(probabilities, softmax(unsmoothed(logits, 0.2), made.card.temperature), atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_weights_lie_on_the_line(base: Bundle, tuned: Bundle, share: float) -> None:
    proto = interpolate.mixed(onnx.load(base.model), onnx.load(tuned.model), share)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    assert np.allclose(np.diag(arrays["pick"]), [1, 1 - 1.5 * share, 1.5 * share - 0.5])
    assert arrays["scale"] == np.float32(10 / 255)


def test_nothing_is_published_where_an_end_is_better(base: Bundle, data: Path, tmp_path: Path) -> None:
    whole = published(tmp_path / "models", data, 2, 1, 1, 1)
    with pytest.raises(interpolate.NoBetterMixture, match="nothing was published"):
        interpolate.run(base, whole, str(data), tmp_path / "models", Console(quiet=True))
    assert not (tmp_path / "models" / "colours" / "3").exists()


def test_what_a_user_gets_wrong_is_one_line(
    base: Bundle, tuned: Bundle, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(first: Bundle, second: Bundle, where: Path) -> str:
        assert main(["interpolate", str(first.folder), str(second.folder), "--data", str(where)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    other = class_folder(tmp_path / "other", each=40, size=(8, 8), seed=1)
    assert "was trained on" in said(base, tuned, other)
    deeper = onnx.load(base.model)
    place, last = next((i, node) for i, node in enumerate(deeper.graph.node) if bundle.LOGITS in node.output)
    last.output[0] = "before"
    deeper.graph.node.insert(place + 1, onnx.helper.make_node("Relu", ["before"], [bundle.LOGITS]))
    base.model.write_bytes(deeper.SerializeToString())
    assert "different networks" in said(base, tuned, data)


def test_a_bundle_without_floats_is_refused(base: Bundle, tmp_path: Path, data: Path) -> None:
    int8 = colour_bundle(tmp_path / "models", "colours", 5, cost=Cost(dtype="int8"))
    with pytest.raises(UsageError, match="has no float32 form"):
        interpolate.run(base, int8, str(data), tmp_path / "models", Console(quiet=True))


def test_a_quality_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["interpolate", "a", "b", "--data", "x", "--quality", "96"])
    assert "'96' is not a JPEG quality" in capsys.readouterr().err
