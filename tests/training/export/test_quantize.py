from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from rich.console import Console

from contract import repository
from contract.bundle import INPUT, LOGITS, PROBABILITIES, Bundle
from contract.card import Card
from contract.errors import UsageError
from tests.support.images import class_folder
from tests.support.recipes import TINY
from training import backbones, pipeline
from training.data import dataset as datasets
from training.data.split import Split
from training.evaluation import evaluate
from training.export import model_file, quantize, to_onnx
from training.loop import trainer
from training.networks import architectures
from training.networks.pretrained import Pretrained

WIDE = dataclasses.replace(TINY, name="wide", network=architectures.Whitened((32, 128)), epochs=3)


def gain(after: float, speed: float, *, images: int = 5000, agreement: float = 1.0) -> quantize.Gain:
    """A gain over an accuracy of 90 %."""
    return quantize.Gain(0.9, after, images, agreement, speed)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("quantize")
        patch.setenv("KERNELSCOPE_CACHE", str(root / "cache"))
        class_folder(root / "colours", each=40, size=(32, 32))
        yield root


@pytest.fixture(scope="module")
def exact(place: Path) -> Bundle:
    options = pipeline.PipelineOptions(
        recipe=WIDE,
        source=str(place / "colours"),
        output=place / "models",
        run=place / "run",
        name="colours",
        size=None,
        resize_mode="crop",
        validation_fraction=0.3,
        training=trainer.Options(),
        resume=False,
        command="kernelscope train",
    )
    return pipeline.run(options, Console(file=io.StringIO()))


def test_integers_answer_as_floats_do(exact: Bundle, place: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    proto = quantize.convert(exact, images)
    kinds = {node.op_type for node in proto.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    weights = [tensor for tensor in proto.graph.initializer if len(tensor.dims) == 4]
    assert weights
    assert all(tensor.data_type == onnx.TensorProto.INT8 for tensor in weights)
    # seven bits, or processors without VNNI compute something else
    assert all(np.abs(onnx.numpy_helper.to_array(tensor).astype(int)).max() <= 64 for tensor in weights)
    int8 = model_file.save_draft(proto, exact.card, tmp_path)
    assert int8.model.stat().st_size < exact.model.stat().st_size / 2
    targets = evaluate.predict_logits(exact, images).argmax(1)
    assert evaluate.evaluate(int8, Split(images, targets), "x").accuracy > 0.85


def test_the_first_convolution_stays_as_it_is_where_accuracy_wants_it(
    exact: Bundle, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(file=io.StringIO())
    gains = [gain(0.89, 3.0), gain(0.899, 2.9)]
    monkeypatch.setattr(quantize, "measure", lambda *_: gains.pop(0))
    version = quantize.run(exact, str(place / "colours"), tmp_path, console)
    assert version.card.cost.float32_convolutions == 1
    kernels = [tensor for tensor in onnx.load(version.model).graph.initializer if len(tensor.dims) == 4]
    assert len(kernels) > 1
    (kept,) = (onnx.numpy_helper.to_array(tensor) for tensor in kernels if tensor.data_type == onnx.TensorProto.FLOAT)
    before = onnx.load(exact.model).graph
    first = next(node.input[1] for node in before.node if node.op_type == "Conv")
    (kernel,) = (onnx.numpy_helper.to_array(tensor) for tensor in before.initializer if tensor.name == first)
    assert np.array_equal(kept, kernel)
    assert "first convolution stays in float32" in console.file.getvalue()  # type: ignore[attr-defined]


def test_what_is_worth_it_is_published_and_what_is_not_is_not(
    exact: Bundle, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(file=io.StringIO())
    monkeypatch.setattr(quantize, "measure", lambda *_: gain(0.899, 2.5))
    command = "kernelscope quantize models/colours/1"
    version = quantize.run(exact, str(place / "colours"), place / "models", console, command=command)
    assert version.version == 2
    assert version.card.cost.parity is None
    assert version.card.cost.layers == exact.card.cost.layers
    assert version.card.training == dataclasses.replace(exact.card.training, quantised_by=command)
    page = (version.folder / "README.md").read_text()
    assert f"by `{command}`" in page
    assert "| trained by | kernelscope train |" in page
    assert version.card.cost.dtype == "int8"
    assert version.card.cost.float32_convolutions == 0
    assert version.card.cost.speed_over_float32 == 2.5
    for measured, says in ((gain(0.89, 3.0), "loses 1.00%"), (gain(0.9, 1.4), "1.40 times")):
        monkeypatch.setattr(quantize, "measure", lambda *_, measured=measured: measured)
        with pytest.raises(quantize.NotWorthIt, match=says):
            quantize.run(exact, str(place / "colours"), place / "models", console)
    assert repository.models(place / "models") == {"colours": [1, 2]}
    with pytest.raises(UsageError, match="is int8"):
        quantize.run(version, str(place / "colours"), place / "models", console)


def test_the_float32_form_stays_beside_the_int8_one_unless_it_is_large(
    exact: Bundle, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "measure", lambda *_: gain(0.9, 3.0))
    int8 = quantize.run(exact, str(place / "colours"), tmp_path, Console(file=io.StringIO()))
    assert exact.float32 == exact.model
    assert int8.float32 == int8.folder / "float32.onnx"
    assert int8.float32.stat().st_size < 0.7 * exact.model.stat().st_size
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    before, after = (
        onnxruntime.InferenceSession(path).run([LOGITS, PROBABILITIES], {INPUT: images})
        for path in (int8.float32, int8.model)
    )
    np.testing.assert_allclose(before[1], after[1], atol=0.2)
    (whole,) = onnxruntime.InferenceSession(exact.model).run([LOGITS], {INPUT: images})
    np.testing.assert_allclose(before[0], whole, atol=0.02)
    monkeypatch.setattr(quantize, "LARGEST_TWIN", 1000)
    alone = quantize.run(exact, str(place / "colours"), tmp_path, Console(file=io.StringIO()))
    assert alone.float32 is None


def test_graphs_are_tidy(exact: Bundle, place: Path) -> None:
    """One name for the batch dimension, and no operator set that no node is from."""
    images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    for proto in (onnx.load(exact.model), quantize.convert(exact, images)):
        values = (*proto.graph.input, *proto.graph.output)
        assert [value.type.tensor_type.shape.dim[0].dim_param for value in values] == ["batch"] * 3
        assert b"unk__" not in proto.SerializeToString()
        assert {item.domain for item in proto.opset_import} == {node.domain for node in proto.graph.node}
        onnx.checker.check_model(proto, full_check=True)


def test_other_data_than_it_was_trained_on_are_refused(exact: Bundle, place: Path, tmp_path: Path) -> None:
    class_folder(tmp_path / "other", size=(32, 32), seed=9)
    with pytest.raises(UsageError, match=r"is not what .* was trained on"):
        quantize.run(exact, str(tmp_path / "other"), place / "models", Console(file=io.StringIO()))


def test_where_few_images_can_tell_the_two_forms_must_agree() -> None:
    quantize.check(gain(0.88, 2.0, images=50, agreement=0.985))  # one image of fifty is chance
    with pytest.raises(quantize.NotWorthIt, match=r"the same class to 98.40% of the images; at least 98.5%"):
        quantize.check(gain(0.9, 2.0, images=50, agreement=0.984))
    quantize.check(gain(0.9, 2.0, agreement=0.9))  # five thousand tell by themselves


def test_the_gain_is_measured_side_by_side(exact: Bundle, place: Path) -> None:
    dataset = datasets.load_for(exact.card, str(place / "colours"))
    measured = quantize.measure(exact, 0.75, exact, dataset)
    assert measured.before == 0.75
    assert measured.after == evaluate.evaluate(exact, dataset.validation, "validation").accuracy
    assert measured.images == len(dataset.validation)
    assert measured.agreement == 1
    assert 0.3 < measured.speed < 3


def test_no_two_neighbouring_products_overflow_sixteen_bits(tmp_path: Path) -> None:
    model = Pretrained().build((32, 32), 3)
    backbones.find("efficientnet-lite0").load(model)
    card = Card(name="lite", labels=("a", "b", "c"), height=32, width=32)
    float32 = model_file.save_draft(to_onnx.convert(model), card, tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    proto = quantize.convert(float32, images, quantize.DEPTHWISE_FORMS[0])
    weights = {
        tensor.name: np.abs(onnx.numpy_helper.to_array(tensor).astype(int)) for tensor in proto.graph.initializer
    }
    kernels = [value for value in weights.values() if value.ndim == 4]
    depthwise = [value for value in kernels if value.shape[1] == 1 and value.shape[-1] > 1]
    assert len(kernels) == 49
    assert len(depthwise) == 16
    assert all(value.max() == 127 for value in depthwise)
    pointwise = [value.reshape(len(value), -1, 2) for value in kernels if value.shape[2:] == (1, 1)]
    assert len(pointwise) == 32
    assert max(value.sum(2).max() for value in pointwise) <= 128
    assert np.mean([value.max() for value in pointwise]) > 80  # seven bits would end at 64
    (stem,) = (value for value in kernels if value.shape[1:] == (3, 3, 3))
    assert stem.max() <= 64
