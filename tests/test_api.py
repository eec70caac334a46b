"""The public Python API: what it exports, how soon it is imported, and what it does."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kernelscope
from service import classifier
from tests.support.images import class_folder
from tests.support.server import ROOT

EXPORTS = {
    "Answer", "Bundle", "Card", "Classifier", "Comparison", "Evaluation", "ImageLike", "KernelscopeError", "Prediction",
    "compare", "evaluate", "import_model", "load", "quantize", "train",
}  # fmt: skip
IMPORT_SECONDS = 0.05


@pytest.fixture(scope="module")
def cifar10() -> kernelscope.Classifier:
    return kernelscope.load("cifar10")


def test_what_it_exports() -> None:
    assert set(kernelscope.__all__) == EXPORTS == set(dir(kernelscope))
    assert all(getattr(kernelscope, name) is not None for name in EXPORTS)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        kernelscope.nothing  # noqa: B018


def test_importing_it_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import kernelscope; took = time.perf_counter() - start\n"
        "print(took, [name for name in ('numpy', 'PIL', 'onnxruntime', 'keras', 'tensorflow') if name in sys.modules])"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5)]
    assert all(run.stdout.split(" ", 1)[1] == "[]\n" for run in runs)
    assert min(float(run.stdout.split()[0]) for run in runs) < IMPORT_SECONDS


def test_it_is_typed() -> None:
    assert all((ROOT / floor / "py.typed").is_file() for floor in ("kernelscope", "service", "training", "contract"))


@pytest.mark.parametrize("module", [kernelscope, classifier])
def test_the_examples_in_its_docstrings(monkeypatch: pytest.MonkeyPatch, module: object) -> None:
    monkeypatch.chdir(ROOT)
    done = doctest.testmod(module, extraglobs={"load": kernelscope.load})  # type: ignore[arg-type]
    assert done.failed == 0
    assert done.attempted > 2


def test_every_kind_of_image_gets_the_same_answer(cifar10: kernelscope.Classifier) -> None:
    path = ROOT / "examples" / "images" / "cat.png"
    image = Image.open(path)
    kinds: list[kernelscope.ImageLike] = [str(path), path, path.read_bytes(), image, np.asarray(image.convert("RGB"))]
    answers = cifar10.predict(kinds)
    assert len({(answer.label, answer.probability) for answer in answers}) == 1
    assert answers[0] == cifar10.predict(path)
    assert answers[0].label == answers[0].top[0].label == "cat"
    assert [answer.probability for answer in answers[0].top] == sorted(
        (answer.probability for answer in answers[0].top), reverse=True
    )
    assert cifar10.predict([]) == []


@pytest.mark.parametrize("bad", [b"", b"text", np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_what_is_no_image_is_an_error_in_one_line(cifar10: kernelscope.Classifier, bad: object) -> None:
    with pytest.raises(kernelscope.KernelscopeError) as error:
        cifar10.predict(bad)  # type: ignore[call-overload]
    assert "\n" not in str(error.value)


def test_an_unreadable_file_is_named(cifar10: kernelscope.Classifier, tmp_path: Path) -> None:
    (tmp_path / "no.jpg").write_bytes(b"text")
    with pytest.raises(kernelscope.KernelscopeError, match=r"no\.jpg: "):
        cifar10.predict([ROOT / "examples" / "cat.jpg", tmp_path / "no.jpg"])
    with pytest.raises(FileNotFoundError):
        cifar10.predict(tmp_path / "absent.jpg")
    with pytest.raises(TypeError, match="not int"):
        cifar10.predict([1])  # type: ignore[list-item]


def test_models_are_found_by_name_and_by_folder() -> None:
    newest = kernelscope.load("cifar10").bundle.folder
    assert kernelscope.load(newest).bundle.folder == newest
    assert kernelscope.load(newest.parent).bundle.folder.name == newest.name
    for wrong in ("absent", "absent/1", newest.parent.parent / "absent"):
        with pytest.raises(kernelscope.KernelscopeError, match="absent"):
            kernelscope.load(wrong)


def test_training_and_judging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELSCOPE_CACHE", str(tmp_path / "cache"))
    data = class_folder(tmp_path / "colours")
    bundle = kernelscope.train(
        data, recipe="seed", output=tmp_path / "out", run=tmp_path / "run", epochs=2, progress=False
    )
    assert bundle.card.training.recipe == "seed"
    score = kernelscope.evaluate(bundle, data)
    assert score.accuracy == pytest.approx(bundle.card.accuracy.accuracy, abs=1e-4)
    comparison = kernelscope.compare(bundle, kernelscope.load(bundle.folder), data)
    assert comparison.only == (0, 0)
    with pytest.raises(kernelscope.KernelscopeError, match="trained on"):
        kernelscope.quantize(bundle, class_folder(tmp_path / "others", seed=1), output=tmp_path / "out", progress=False)
