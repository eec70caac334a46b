from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from contract import repository
from contract.errors import KernelscopeError
from tests.support.images import class_folder
from tests.support.recipes import TINY
from training import pipeline
from training.export import to_onnx
from training.loop import checkpoint, trainer


def test_what_the_export_needs_is_checked_before_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(to_onnx, "find_spec", lambda name: None)
    options = pipeline.PipelineOptions(
        recipe=TINY,
        source=str(class_folder(tmp_path / "colours")),
        output=tmp_path / "models",
        run=tmp_path / "run",
        name="colours",
        size=None,
        resize_mode="crop",
        validation_fraction=0.1,
        training=trainer.Options(epochs=2),
        resume=False,
        command="kernelscope train",
    )
    with pytest.raises(to_onnx.ExportError, match="tf2onnx, which the export needs, is not installed"):
        pipeline.run(options, Console(file=io.StringIO()))
    assert not (tmp_path / "run").exists()


def test_a_model_that_cannot_be_published_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELSCOPE_CACHE", str(tmp_path / "cache"))
    options = pipeline.PipelineOptions(
        recipe=TINY,
        source=str(class_folder(tmp_path / "colours")),
        output=tmp_path / "models",
        run=tmp_path / "run",
        name="colours",
        size=None,
        resize_mode="crop",
        validation_fraction=0.1,
        training=trainer.Options(epochs=2),
        resume=False,
        command="kernelscope train",
    )
    output = io.StringIO()
    console = Console(file=output)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "models/colours/1")

    with monkeypatch.context() as patch:
        patch.setattr(to_onnx, "write", full)
        with pytest.raises(KernelscopeError, match=r"No space left .* repeat the command with --resume"):
            pipeline.run(options, console)
    assert not (tmp_path / "models").exists()
    with pytest.raises(KernelscopeError, match="was not published"):
        pipeline.run(options, console)
    epochs = output.getvalue().count("epoch ")
    bundle = pipeline.run(dataclasses.replace(options, resume=True), console)
    assert output.getvalue().count("epoch ") == epochs  # nothing was trained again
    assert repository.models(tmp_path / "models") == {"colours": [1]}
    assert (options.run / checkpoint.PUBLISHED).read_text().strip() == str(bundle.folder)
