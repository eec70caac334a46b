"""`benchmarks/gpu.sh`, whole, on a CPU: with a tiny network, and without what a bare machine lacks."""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks import gpu
from tests.support.images import class_folder
from tests.support.server import ROOT
from training import recipes
from training.data import dataset as datasets
from training.loop import checkpoint, trainer

ABSENT = "tensorflow", "tf2onnx", "tensorboard", "matplotlib", "torch", "fastapi", "service", "kernelscope"
HIDES = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {ABSENT!r} else find(name, package)
"""


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script is given; one of the wheels takes away what a bare machine lacks."""
    root = tmp_path_factory.mktemp("gpu")
    class_folder(root / "cifar10", each=30, size=(32, 32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERNELSCOPE_CACHE", str(root / "cache"))
        options = {"folder": root / "given", "parts": 3, "no_wheels": True, "scenes": None}
        gpu.pack(argparse.Namespace(data=str(root / "cifar10"), **options))
    (root / "given" / "wheels").mkdir()
    with zipfile.ZipFile(root / "given" / "wheels" / "absent-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("sitecustomize.py", HIDES)
    return root / "given"


def script(given: Path, out: Path, *words: str, where: Path = ROOT / "benchmarks") -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "OUT": str(out),
        "PYTHON": sys.executable,
        "JAX_PLATFORMS": "cpu",
        "GPU_ARGUMENTS": "--tiny --epochs 2 --executor resident",
        "GPU_MORE": "--tiny --images 64 --batch-size 16",
    }
    return subprocess.run(
        [where / "gpu.sh", given, *words], env=environment, capture_output=True, text=True, check=False
    )


def test_the_script_trains_and_its_weights_are_taken_up(given: Path, tmp_path: Path) -> None:
    """From a folder that has nothing but the script: the project is in what it is given."""
    alone, out = tmp_path / "alone" / "benchmarks", tmp_path / "out"
    alone.mkdir(parents=True)
    shutil.copy(ROOT / "benchmarks" / "gpu.sh", alone)
    done = script(given, out, "fast", "best", where=alone)
    log = (out / "gpu.log").read_text()
    assert done.returncode == 0, log + done.stderr
    figures = [json.loads(line) for line in (out / gpu.FIGURES).read_text().splitlines()]
    assert [(row["what"], row.get("seed")) for row in figures] == [
        ("fast", 0), ("fast", 1), ("fast", 2), ("profile", None), ("best", 0)
    ]  # fmt: skip
    for row in figures:
        if row["what"] != "profile":
            assert row["images"] == 30
            assert 0 < row["loop_seconds"] < row["command_seconds"]
            assert len(row["log"]) == 2
    assert figures[3]["device_busy"] is None  # there is no GPU
    assert "fast: " in log
    assert "± " in log
    names = {path.name for path in out.iterdir()}
    weights = {"fast-0.npz", "fast-1.npz", "fast-2.npz", "best-0.npz"}
    assert names == {"gpu.log", gpu.FIGURES, "profile.xplane.pb.xz", *weights}

    data = tmp_path / "cifar10.npz"
    gpu.unpack(argparse.Namespace(folder=given, data=data))
    dataset = datasets.load(str(data), validation_fraction=gpu.VALIDATION_FRACTION)
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(out / "best-0.npz", run / checkpoint.FILE)
    recipe = gpu.tiny(recipes.find("best"))
    options = trainer.Options(epochs=2, precision=None)
    trained = trainer.fit(recipe, dataset, options, run, resume=True, console=Console(file=io.StringIO()))
    assert dataset.test is not None
    answers = trainer.predict(trained.model, dataset.test.images).argmax(1)
    assert np.mean(answers == dataset.test.targets) == pytest.approx(figures[4]["accuracy"], abs=1 / 29)
    assert len(trained.history) == 2


def test_the_speed_of_resident_and_streamed_images_is_measured(given: Path, tmp_path: Path) -> None:
    done = script(given, tmp_path, "speed")
    assert done.returncode == 0, (tmp_path / "gpu.log").read_text() + done.stderr
    figures = [json.loads(line) for line in (tmp_path / gpu.FIGURES).read_text().splitlines()]
    assert [(row["executor"], row["images_in"]) for row in figures] == [
        ("resident", "memory"), ("streamed", "memory"), ("streamed", "disk")
    ]  # fmt: skip
    assert all(row["images_a_second"] > 0 for row in figures)


def test_what_fails_is_said(given: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert script(empty, tmp_path / "a", "fast").returncode != 0
    assert "FAILED" in (tmp_path / "a" / "gpu.log").read_text()
    done = script(given, tmp_path / "b")
    assert done.returncode == 2
    assert "say what to run" in done.stderr
    assert script(given, tmp_path / "c", "worst").returncode == 2
