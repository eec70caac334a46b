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
from contract.errors import UsageError
from tests.support.images import class_folder
from tests.support.models import colour_bundle
from tests.support.recipes import TINY
from training import pipeline
from training.data.split import Split
from training.evaluation import evaluate
from training.export import quantize, to_onnx
from training.loop import trainer
from training.networks import architectures

WIDE = dataclasses.replace(TINY, name="wide", network=architectures.Whitened((32, 128)), epochs=3)


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
    int8 = to_onnx.save_draft(proto, exact.card, tmp_path)
    assert int8.model.stat().st_size < exact.model.stat().st_size / 2
    targets = evaluate.predict_logits(exact, images).argmax(1)
    assert evaluate.evaluate(int8, Split(images, targets), "x").accuracy > 0.85


def test_the_first_convolution_stays_as_it_is_where_accuracy_wants_it(
    exact: Bundle, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(file=io.StringIO())
    gains = [quantize.Gain(0.9, 0.89, 3.0), quantize.Gain(0.9, 0.899, 2.9)]
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
    monkeypatch.setattr(quantize, "measure", lambda *_: quantize.Gain(0.9, 0.899, 2.5))
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
    for gain, says in ((quantize.Gain(0.9, 0.89, 3.0), "loses 1.00%"), (quantize.Gain(0.9, 0.9, 1.4), "1.40 times")):
        monkeypatch.setattr(quantize, "measure", lambda *_, gain=gain: gain)
        with pytest.raises(quantize.NotWorthIt, match=says):
            quantize.run(exact, str(place / "colours"), place / "models", console)
    assert repository.models(place / "models") == {"colours": [1, 2]}
    with pytest.raises(UsageError, match="is int8"):
        quantize.run(version, str(place / "colours"), place / "models", console)


def test_the_float32_form_stays_beside_the_int8_one_unless_it_is_large(
    exact: Bundle, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "measure", lambda *_: quantize.Gain(0.9, 0.9, 3.0))
    int8 = quantize.run(exact, str(place / "colours"), tmp_path, Console(file=io.StringIO()))
    assert exact.float32 == exact.model
    assert int8.float32 == int8.folder / "float32.onnx"
    assert int8.float32.read_bytes() == exact.model.read_bytes()
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    before, after = (
        onnxruntime.InferenceSession(path).run([LOGITS, PROBABILITIES], {INPUT: images})
        for path in (int8.float32, int8.model)
    )
    np.testing.assert_allclose(before[1], after[1], atol=0.2)
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


def test_the_gain_is_measured_side_by_side(tmp_path: Path) -> None:
    bundle = colour_bundle(tmp_path)
    images = np.zeros((4, 8, 8, 3), np.uint8)
    images[..., 0] = 250
    gain = quantize.measure(bundle, 0.75, bundle, Split(images, np.zeros(4, np.int64)))
    assert (gain.before, gain.after) == (0.75, 1)
    assert 0.3 < gain.speed < 3
