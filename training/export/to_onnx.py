"""Convert a trained network to `model.onnx` with tf2onnx, and check the graph and its answers.

The conversion needs TensorFlow. Where Keras runs on another backend, it is done in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import keras
import numpy as np
import onnx

from contract.bundle import INPUT, LOGITS, MODEL, PROBABILITIES, Bundle
from contract.errors import KernelscopeError
from contract.preprocessing import Pixels
from contract.session import open_session
from training import provenance
from training.evaluation.calibrate import softmax, unsmoothed
from training.export import model_file, tensorflow_graph
from training.export.fold import fold
from training.loop.trainer import predict
from training.networks import architectures

PARITY: Final = 1e-4
"""The largest difference in probability between Keras and onnxruntime that passes."""
PARITY_BATCHES: Final = (1, 7, 64)


class ExportError(KernelscopeError):
    """A network that cannot be exported, or whose exported form differs from it; nothing is published."""


def can_export() -> bool:
    """Whether TensorFlow is installed, whose graphs tf2onnx reads. Asked before a training starts.

    Raises:
        ExportError: TensorFlow is installed, but tf2onnx is not.
    """
    if keras.backend.backend() != "tensorflow" and find_spec("tensorflow") is None:
        return False
    if find_spec("tf2onnx") is None:
        raise ExportError("tf2onnx, which the export needs, is not installed: pip install 'kernelscope[train]'")
    return True


def not_exported() -> ExportError:
    """What a training ends with where `can_export` is false: how to export its checkpoint."""
    return ExportError(
        "the network is trained, but not exported: that needs TensorFlow, which is not installed. "
        "pip install 'kernelscope[train]' and repeat the same command with --resume, here or on another machine with "
        "the run's folder"
    )


def exact() -> AbstractContextManager[None]:
    """In this block Keras computes on the CPU: GPUs round the factors of float32 products to 10 bits (TF32)."""
    block: AbstractContextManager[None] = keras.device("cpu") if provenance.accelerator() else nullcontext()
    return block


def in_form(network: architectures.Network, trained: keras.Model, classes: int, *, for_export: bool) -> keras.Model:
    """Build the trained network again, in float32, in the form that was trained or in the form that is exported."""
    with architectures.precision("float32"):
        size = trained.input_shape[1], trained.input_shape[2]
        return architectures.copy_weights(trained, network.build(size, classes, for_export=for_export))


def convert(model: keras.Model, temperature: float = 1.0, label_smoothing: float | None = None) -> onnx.ModelProto:
    """Convert a network to the graph of a bundle: uint8 images in, calibrated probabilities and raw logits out.

    Args:
        model: the network in the form for export.
        temperature: what the logits are divided by before the softmax.
        label_smoothing: what is taken back before that, if anything; see `calibrate.unsmoothed`.

    Raises:
        ExportError: a batch normalisation did not fold into a convolution, the graph transposes more than once, or the
            process that converts ended with an error.
    """
    with tempfile.TemporaryDirectory(prefix="kernelscope-") as folder:
        if keras.backend.backend() == "tensorflow":
            proto = tensorflow_graph.convert(model)
        else:
            proto = _convert_elsewhere(model, Path(folder))
    fold(proto)
    model_file.tidy(proto)
    model_file.set_calibration(proto, temperature, label_smoothing)
    check_graph(proto)
    return proto


def _convert_elsewhere(model: keras.Model, folder: Path) -> onnx.ModelProto:
    """Convert in a process of its own, in which Keras runs on TensorFlow."""
    network, converted = folder / "network.keras", folder / MODEL
    model.save(network)
    root = str(Path(__file__).resolve().parents[2])
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "-1",  # the memory of a GPU is this process's
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
    }
    # -P: a folder of the user's that is called training must not be taken for this package
    words = [sys.executable, "-P", "-m", tensorflow_graph.__name__, str(network), str(converted)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ExportError(f"the conversion by TensorFlow, in a process of its own, failed: {last}")
    return onnx.load(converted)


def check_graph(proto: onnx.ModelProto) -> None:
    """Raise `ExportError` unless the graph is valid, folded, and laid out once."""
    onnx.checker.check_model(proto)
    nodes = Counter(node.op_type for node in proto.graph.node)
    if nodes["BatchNormalization"]:
        raise ExportError(f"{nodes['BatchNormalization']} batch normalisations did not fold into a convolution")
    if nodes["Transpose"] > 1:
        raise ExportError(f"the graph transposes its images {nodes['Transpose']} times; once is enough")
    names = {value.name for value in (*proto.graph.input, *proto.graph.output)}
    if names != {INPUT, PROBABILITIES, LOGITS}:
        raise ExportError(f"the graph's inputs and outputs are called {sorted(names)}")


def check_parity(bundle: Bundle, model: keras.Model, images: Pixels) -> float:
    """Compare a bundle with Keras on real images, in batches of 1, 7 and 64.

    Args:
        bundle: the bundle, or its draft.
        model: the network in the form that was trained, in float32.
        images: uint8 (N, H, W, 3); the first 64 are used.

    Returns:
        The largest difference in probability.

    Raises:
        ExportError: the difference is not below `PARITY`.
    """
    session, card = open_session(bundle), bundle.card
    worst = 0.0
    for size in PARITY_BATCHES:
        batch = images[np.arange(size) % len(images)]
        (probabilities,) = session.run([PROBABILITIES], {INPUT: batch})
        expected = softmax(unsmoothed(predict(model, batch), card.label_smoothing), card.temperature)
        worst = max(worst, float(np.abs(probabilities - expected).max()))
    if not worst < PARITY:
        raise ExportError(f"onnxruntime and Keras differ by {worst:.1e} in probability; at most {PARITY} is allowed")
    return worst
