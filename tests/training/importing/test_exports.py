"""What torchvision, Hugging Face and Keras export, imported, compared, served and explained."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import kernelscope
from contract.bundle import INPUT, LOGITS, PROBABILITIES
from contract.session import open_session
from tests.support import foreign
from tests.support.server import ROOT, Server
from training.evaluation.calibrate import softmax

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LARGEST = 1e-5
CLASSES = 37
LABELS = tuple(f"class {number}" for number in range(CLASSES))
EXPORTER = ROOT / "tests" / "support" / "torch_export.py"
NETWORKS = [f"{name}-{form}" for name in ("resnet18", "mobilenet_v2") for form in ("free", "fixed", "dynamo")]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What torchvision exports, by the interpreter that KERNELSCOPE_TORCH_PYTHON names, or by this one."""
    interpreter = os.environ.get("KERNELSCOPE_TORCH_PYTHON", "")
    if not interpreter and not (find_spec("torchvision") and find_spec("onnxscript")):
        pytest.skip("torchvision is not installed: KERNELSCOPE_TORCH_PYTHON names an interpreter that has it")
    folder = tmp_path_factory.mktemp("exported")
    words = [interpreter or sys.executable, str(EXPORTER), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return foreign.noise(224, 224, 5)


@pytest.fixture(scope="module")
def repository(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name in NETWORKS:
        file = exported / f"{name}.onnx"
        kernelscope.import_model(file, LABELS, name=name, output=root, mean=MEAN, std=STD, progress=False)
    return root


@pytest.mark.parametrize("name", NETWORKS)
def test_torchvision(exported: Path, repository: Path, images: np.ndarray, name: str) -> None:
    bundle = kernelscope.load(repository / name).bundle
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    values = ((images / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)
    expected = foreign.run(exported / f"{name}.onnx", np.ascontiguousarray(values, np.float32))
    session = open_session(bundle, outputs=(LOGITS, PROBABILITIES))
    logits, probabilities = session.run([LOGITS, PROBABILITIES], {INPUT: images})
    assert np.ptp(expected, axis=1).min() > 1e-2, "answers that are all alike say nothing"
    assert np.abs(probabilities - softmax(expected)).max() < LARGEST
    assert np.abs(logits - expected).max() < LARGEST * max(1, np.abs(expected).max())
    assert bundle.card.training.original is not None
    assert bundle.card.training.original.batching == ("any" if name.endswith("free") else "freed")


def test_they_are_served_and_explained(serve: Callable[..., Server], repository: Path) -> None:
    server = serve("--models", str(repository))
    image = (ROOT / "examples" / "cat.jpg").read_bytes()
    for name in NETWORKS:
        answer = server.client.post("/predict", params={"model": name}, content=image)
        assert answer.status_code == 200, answer.text
        assert answer.json()["label"] in LABELS
        explained = server.client.post("/explain", params={"model": name}, content=image)
        assert explained.status_code == 200, explained.text
        layers = server.client.get(f"/models/{name}/layers").json()
        assert sum(layer["kind"] == "convolution" for layer in layers["layers"]) >= 20
        assert layers["methods"] == ["contributions", "occlusion", "integrated_gradients", "gradient_activation"]


def test_hugging_face(serve: Callable[..., Server], exported: Path, images: np.ndarray, tmp_path: Path) -> None:
    """A vision transformer, with the mean and deviation that its image processor has."""
    file = exported / "vit.onnx"
    if not file.exists():
        pytest.skip("transformers is not installed beside PyTorch")
    half = (0.5, 0.5, 0.5)
    imported = kernelscope.import_model(file, LABELS, name="vit", output=tmp_path, mean=half, std=half, progress=False)
    values = np.ascontiguousarray(((images / np.float32(255) - 0.5) / 0.5).transpose(0, 3, 1, 2), np.float32)
    expected = foreign.run(file, values)
    (probabilities,) = open_session(imported).run([PROBABILITIES], {INPUT: images})
    assert np.ptp(expected, axis=1).min() > 1e-2
    assert np.abs(probabilities - softmax(expected)).max() < LARGEST
    server = serve("--models", str(tmp_path))
    image = (ROOT / "examples" / "cat.jpg").read_bytes()
    assert server.client.post("/predict", content=image).json()["label"] in LABELS
    methods = server.client.get("/models/vit/layers").json()["methods"]
    assert "occlusion" in methods
    for method in methods:
        answer = server.client.post("/explain", params={"method": method}, content=image)
        assert answer.status_code == 200, answer.text


@pytest.mark.filterwarnings("ignore")
def test_keras(tmp_path: Path) -> None:
    """Keras' MobileNetV3 scales bytes by itself and ends in a softmax."""
    script = (
        "import sys, keras, numpy as np, tensorflow as tf, tf2onnx\n"
        "keras.utils.set_random_seed(0)\n"
        f"model = keras.applications.MobileNetV3Small(weights=None, classes={CLASSES}, input_shape=(96, 96, 3))\n"
        "noise = np.random.default_rng(0)\n"
        "for layer in model.layers:\n"
        "    layer.momentum = 0.0\n"  # of batch normalisation: its statistics become those of the images below
        "for _ in range(3):\n"
        "    colours = noise.uniform(0, 255, (8, 1, 1, 3)) + noise.normal(0, 40, (8, 96, 96, 3))\n"
        "    model(colours.astype('float32'), training=True)\n"
        "images = np.load(sys.argv[1])\n"
        "np.save(sys.argv[2], model.predict(images.astype('float32'), verbose=0))\n"
        "signature = (tf.TensorSpec((None, 96, 96, 3), tf.float32, name='input'),)\n"
        "tf2onnx.convert.from_keras(model, input_signature=signature, opset=17, output_path=sys.argv[3])\n"
    )
    pixels, answers, file = tmp_path / "images.npy", tmp_path / "answers.npy", tmp_path / "keras.onnx"
    images = foreign.noise(96, 96, 5)
    np.save(pixels, images)
    words = [sys.executable, "-c", script, str(pixels), str(answers), str(file)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises(kernelscope.KernelscopeError, match="add --range 0,255"):
        kernelscope.import_model(file, LABELS, name="keras", output=tmp_path / "models", progress=False)
    bundle = kernelscope.import_model(
        file, LABELS, name="keras", output=tmp_path / "models", value_range=(0, 255), progress=False
    )
    (probabilities,) = open_session(bundle).run([PROBABILITIES], {INPUT: images})
    by_keras = np.load(answers)
    assert np.ptp(by_keras, axis=1).min() > 1e-3
    assert np.abs(probabilities - by_keras).max() < LARGEST
