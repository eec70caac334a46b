"""Quantise a bundle to int8 weights and activations; the int8 form is published only if accuracy and speed hold.

Static quantisation in QDQ form, weights per channel, activations calibrated on training images; see
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html and Jacob et al. 2018, arXiv:1712.05877.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from rich.console import Console

from contract.bundle import INPUT, Bundle
from contract.errors import KernelscopeError, UsageError
from contract.preprocessing import Pixels
from training.data import dataset as datasets
from training.data.dataset import Dataset
from training.evaluation import compare, evaluate, ood
from training.export import model_file
from training.export.publish import publish
from training.loop.progress import counting

CALIBRATION_IMAGES: Final = 512
LARGEST_LOSS: Final = 0.002
"""The largest loss of validation accuracy, as a fraction, that is accepted."""
LARGEST_TWIN: Final = 32 * 2**20
"""Bytes: a larger float32 model is not kept beside the int8 one."""
FEW_IMAGES: Final = 1000
"""With fewer validation images, a difference of accuracy is chance: agreement decides instead."""
LEAST_AGREEMENT: Final = 0.985
"""The least fraction of images that both forms give the same class, if validation images are few."""
_AGREEMENT_IMAGES: Final = 500
LEAST_GAIN: Final = 1.5
"""The least speed, as a multiple of float32's, that is accepted."""
_BATCH: Final = 64
_BATCH_PIXELS: Final = 2**20
"""Pixels in a batch of calibration at most: all activations of a batch are kept at once."""
_LARGEST_PAIR: Final = 127.0
"""Of two neighbouring weights, as integers, the sum of the magnitudes; one less than what overflows, for rounding."""


@dataclass(frozen=True)
class Form:
    """How a model becomes int8.

    Attributes:
        float32_convolutions: how many of the first convolutions stay in float32.
        percentile: activations beyond it are clipped, because a few large ones would cost all others resolution; None:
            none are.
        operators: kinds of nodes that compute in int8.
    """

    float32_convolutions: int = 0
    percentile: float | None = None
    operators: tuple[str, ...] = ("Conv", "MaxPool", "MatMul", "Gemm")


FORMS: Final = (Form(percentile=99.99), Form(float32_convolutions=1, percentile=99.999))
"""The first form whose accuracy holds is published.

The first convolution is the most sensitive: its whitening kernels take differences between neighbouring pixels, which
rounded weights lose. Keeping it in float32 costs throughput in batches, so it is tried second; then less clipping is
nearer to float32 (`docs/results.md`).
"""
_BOUNDED: Final = ("Conv", "MaxPool", "MatMul", "Gemm", "Clip", "GlobalAveragePool")
DEPTHWISE_FORMS: Final = (Form(operators=_BOUNDED), Form(percentile=99.999, operators=_BOUNDED))
"""The same for networks with depthwise convolutions: ReLU6 bounds their activations, so nothing needs to be clipped."""


class NotWorthIt(KernelscopeError):
    """The int8 form loses too much accuracy or gains too little speed; nothing is published."""


@dataclass(frozen=True)
class Gain:
    """int8 compared with float32.

    Attributes:
        before: validation accuracy of float32.
        after: validation accuracy of int8.
        images: how many validation images there are.
        agreement: fraction of validation and training images that both give the same class.
        speed: how many times as fast int8 is.
    """

    before: float
    after: float
    images: int
    agreement: float
    speed: float

    @property
    def is_exact(self) -> bool:
        """Whether the accuracy holds; if few images can tell, whether both forms agree."""
        if self.images < FEW_IMAGES:
            return self.agreement >= LEAST_AGREEMENT
        return self.before - self.after <= LARGEST_LOSS + 1e-9  # for rounding in floating point


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
    def __init__(self, images: Pixels) -> None:
        size = max(1, min(_BATCH, len(images), _BATCH_PIXELS // (images.shape[1] * images.shape[2])))
        count = len(images) // size  # the percentile's histograms need batches of one size
        self._batches: Iterator[Pixels] = iter(np.split(images[: count * size], count))

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def convert(bundle: Bundle, images: Pixels, form: Form = FORMS[0], *, seed: int = 0) -> onnx.ModelProto:
    """Convert a bundle's model to int8.

    Args:
        bundle: a float32 bundle.
        images: training images, uint8 (N, H, W, 3), of which `CALIBRATION_IMAGES` set the ranges of the activations.
        form: which convolutions stay in float32, and how far activations are clipped.
        seed: of the choice of images.
    """
    convolutions = [node.name for node in onnx.load(bundle.model).graph.node if node.op_type == "Conv"]
    chosen = np.random.default_rng(seed).permutation(len(images))[:CALIBRATION_IMAGES]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):  # onnxruntime prints
        prepared, quantised = Path(folder, "prepared.onnx"), Path(folder, "int8.onnx")
        quant_pre_process(str(bundle.model), str(prepared), skip_symbolic_shape=True)
        options: dict[str, Any] = {"TensorQuantOverrides": _eight_bits(onnx.load(prepared))}
        method = CalibrationMethod.MinMax
        if form.percentile is not None:
            method, options["CalibPercentile"] = CalibrationMethod.Percentile, form.percentile
        quantize_static(
            str(prepared),
            str(quantised),
            _Reader(images[chosen]),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,  # after a ReLU no value is negative, after a GELU few
            weight_type=QuantType.QInt8,
            # seven bits: on processors without VNNI, sums of eight-bit products overflow sixteen bits without an error.
            # The shipped model's accuracy fell from 93 to about 50 % there (tried with qemu-x86_64 -cpu Haswell)
            reduce_range=True,
            calibrate_method=method,
            extra_options=options,
            op_types_to_quantize=list(form.operators),
            nodes_to_exclude=convolutions[: form.float32_convolutions],
        )
        proto = onnx.load(quantised)
    model_file.tidy(proto)
    return proto


def _is_depthwise(node: onnx.NodeProto) -> bool:
    return node.op_type == "Conv" and any(field.name == "group" and field.i > 1 for field in node.attribute)


def _eight_bits(proto: onnx.ModelProto) -> dict[str, list[dict[str, Any]]]:
    """Give kernels more than seven bits where no processor overflows, as onnxruntime's `TensorQuantOverrides`.

    Only in networks with depthwise convolutions, which lose the most by rounding. onnxruntime computes these in
    sixteen-bit products everywhere (MLAS, `qdwconv_avx2.cpp`). For 1×1 convolutions, processors without VNNI add the
    products of two neighbouring channels in sixteen bits: 255 times the sum of two weights stays below 32,768 if that
    sum is 128 at most. So a kernel's range follows from its largest pair, not from twice its largest weight.
    """
    if not any(_is_depthwise(node) for node in proto.graph.node):
        return {}
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    wide = {"quant_type": QuantType.QInt8, "symmetric": True, "reduce_range": False, "axis": 0}
    overrides: dict[str, list[dict[str, Any]]] = {}
    for node in proto.graph.node:
        if node.op_type != "Conv" or node.input[1] not in constants:
            continue
        kernels = np.abs(numpy_helper.to_array(constants[node.input[1]]))
        if _is_depthwise(node):
            overrides[node.input[1]] = [wide]
        elif kernels.shape[2:] == (1, 1):
            flat = kernels.reshape(len(kernels), -1)
            pairs = np.pad(flat, ((0, 0), (0, flat.shape[1] % 2))).reshape(len(flat), -1, 2).sum(2)
            ranges = np.maximum(flat.max(1), pairs.max(1) * 127 / _LARGEST_PAIR)
            overrides[node.input[1]] = [{**wide, "rmin": -bound, "rmax": bound} for bound in ranges]
    return overrides


def measure(before: Bundle, accuracy: float, after: Bundle, dataset: Dataset) -> Gain:
    """Score the int8 form, and time both in turns, on one thread, one image a run.

    Args:
        before: the float32 bundle.
        accuracy: its accuracy on the validation images.
        after: an int8 form of it.
        dataset: the data that it was trained on.
    """
    validation, train = dataset.validation.images, dataset.train.images
    chosen = np.random.default_rng(1).permutation(len(train))[: max(0, _AGREEMENT_IMAGES - len(validation))]
    answers = [
        np.concatenate(
            [evaluate.predict_logits(bundle, images) for images in (validation, train[chosen]) if len(images)]
        )
        for bundle in (before, after)
    ]
    return Gain(
        before=accuracy,
        after=evaluate.evaluate(after, dataset.validation, "validation").accuracy,
        images=len(validation),
        agreement=float(np.mean(answers[0].argmax(1) == answers[1].argmax(1))),
        speed=compare.speed(before, after).ratio,
    )


def check(gain: Gain) -> None:
    """Raise `NotWorthIt` unless both accuracy and speed hold."""
    if not gain.is_exact and gain.images < FEW_IMAGES:
        raise NotWorthIt(
            f"int8 and float32 give the same class to {gain.agreement:.2%} of the images; at least "
            f"{LEAST_AGREEMENT:.1%} is required, so nothing was published"
        )
    if not gain.is_exact:
        raise NotWorthIt(
            f"int8 loses {gain.before - gain.after:.2%} of validation accuracy "
            f"({gain.before:.2%} to {gain.after:.2%}); at most {LARGEST_LOSS:.1%} is allowed, so nothing was published"
        )
    if gain.speed < LEAST_GAIN:
        raise NotWorthIt(
            f"int8 is {gain.speed:.2f} times as fast as float32 on this processor; "
            f"it must be {LEAST_GAIN:g} times as fast, so nothing was published"
        )


def run(
    bundle: Bundle,
    source: str,
    output: Path,
    console: Console,
    ood_folder: Path | None = None,
    *,
    command: str = "kernelscope quantize",
) -> Bundle:
    """Quantise a bundle, check and score the int8 form, and publish it as another version of the same model.

    The float32 model stays beside the int8 one, for looking inside, unless it is larger than `LARGEST_TWIN`.

    Args:
        bundle: a float32 bundle.
        source: the labelled images that it was trained on; see `training.data.dataset.load`.
        output: the repository to publish into.
        console: where progress is shown.
        ood_folder: a folder of out-of-distribution images for the rejection threshold, beside the synthetic ones.
        command: the command line, for the card.

    Raises:
        UsageError: the bundle is int8 already, or these are not the images that it was trained on.
        NotWorthIt: the int8 form loses too much accuracy or gains too little speed.
    """
    card = bundle.card
    if card.cost.dtype != "float32":
        raise UsageError(f"{bundle.folder} is {card.cost.dtype or 'of unknown type'}; quantise a float32 bundle")
    with counting(console, "reading images") as progress:
        dataset = datasets.load_for(card, source, progress)
    if not datasets.trained_on(card, dataset):
        raise UsageError(f"{source} is not what {bundle.folder} was trained on ({card.data.name}): give those data")
    other = ood.read_folder(ood_folder, dataset.size, card.resize_mode) if ood_folder else None
    return publish_int8(bundle, dataset, output, console, other, command=command)


def publish_int8(
    bundle: Bundle, dataset: Dataset, output: Path, console: Console, other: Pixels | None = None, *, command: str
) -> Bundle:
    """Quantise a float32 bundle and publish the int8 form; see `run`.

    Args:
        bundle: a float32 bundle.
        dataset: what it was trained on.
        output: the repository to publish into.
        console: where progress is shown.
        other: out-of-distribution images for the rejection threshold, beside the synthetic ones.
        command: the command line, for the card.

    Raises:
        NotWorthIt: the int8 form loses too much accuracy or gains too little speed.
    """
    card = bundle.card
    proto, form, gain = _best_form(bundle, dataset)
    check(gain)
    card = dataclasses.replace(
        card,
        name=bundle.folder.absolute().parent.name,
        training=dataclasses.replace(card.training, quantised_by=command),
        cost=dataclasses.replace(
            card.cost,
            dtype="int8",
            float32_convolutions=form.float32_convolutions,
            speed_over_float32=round(gain.speed, 2),
            validation_accuracy_over_float32=round(gain.after - gain.before, 4),
            agreement_with_float32=round(gain.agreement, 4),
        ),
    )
    float32 = bundle.model if bundle.model.stat().st_size <= LARGEST_TWIN else None
    quantised = publish(proto, card, dataset, output, console, other=other, float32=float32)
    console.print(
        f"int8: {gain.speed:.2f} times as fast, the same class on {gain.agreement:.2%} of the images, validation "
        f"accuracy {gain.before:.2%} before, {gain.after:.2%} after"
        f"{'; the first convolution stays in float32' if form.float32_convolutions else ''}",
        highlight=False,
        soft_wrap=True,
    )
    return quantised


def _best_form(bundle: Bundle, dataset: Dataset) -> tuple[onnx.ModelProto, Form, Gain]:
    """Return the first form whose accuracy holds, else the last one."""
    accuracy = evaluate.evaluate(bundle, dataset.validation, "validation").accuracy
    forms = DEPTHWISE_FORMS if any(map(_is_depthwise, onnx.load(bundle.model).graph.node)) else FORMS
    with tempfile.TemporaryDirectory() as folder:
        for form in forms:
            proto = convert(bundle, dataset.train.images, form)
            draft = model_file.save_draft(proto, bundle.card, Path(folder))
            gain = measure(bundle, accuracy, draft, dataset)
            if gain.is_exact:
                break
    return proto, form, gain
