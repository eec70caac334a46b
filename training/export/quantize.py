"""int8: a bundle's model with integer weights and activations, kept only where accuracy and speed hold.

Static quantisation in QDQ form, weights per channel, activations calibrated on training images; see
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html and Jacob et al. 2018, arXiv:1712.05877.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from rich.console import Console

from contract import bundle, repository
from contract.errors import KernelscopeError, UsageError
from contract.preprocessing import Pixels
from training import provenance
from training.data import dataset
from training.data.split import Split
from training.evaluation import compare, corruptions, evaluate, ood
from training.export import report, to_onnx
from training.loop.progress import counting

CALIBRATION_IMAGES: Final = 512
LARGEST_LOSS: Final = 0.002
"""The accuracy that may be lost on held-out images."""
LARGEST_TWIN: Final = 32 * 2**20
"""Bytes: a float32 model that is larger is not kept beside the int8 one."""
LEAST_GAIN: Final = 2.0
"""How many times as fast as float32 it must be."""
_BATCH: Final = 64


@dataclass(frozen=True)
class Form:
    """How a model becomes int8.

    Attributes:
        kept: how many of the first convolutions stay in float32.
        percentile: activations beyond it are clipped: the few largest would otherwise cost all others their resolution.
    """

    kept: int
    percentile: float


FORMS: Final = (Form(kept=0, percentile=99.99), Form(kept=1, percentile=99.999))
"""The first of which the accuracy holds is taken: in batches, a first convolution in float32 costs throughput.

It is small, and all others live on what it lets through: kernels that whiten take differences between neighbours, of
which rounded weights leave little. Without that error, less clipping is nearer to float32 (`docs/results.md`).
"""


class NotWorthIt(KernelscopeError):
    """The int8 model loses too much accuracy or gains too little speed; nothing is published."""


@dataclass(frozen=True)
class Gain:
    """int8 beside float32: accuracy of each on the same images, and how many times as fast it is."""

    before: float
    after: float
    speed: float

    @property
    def is_exact(self) -> bool:
        """Whether accuracy holds."""
        return self.before - self.after <= LARGEST_LOSS + 1e-9  # shares of a few thousand, in floating point


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
    def __init__(self, images: Pixels) -> None:
        size = min(_BATCH, len(images))
        whole = len(images) // size  # the percentile's histograms want batches of one size
        self._batches: Iterator[Pixels] = iter(np.split(images[: whole * size], whole))

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {bundle.INPUT: batch}


def convert(of: bundle.Bundle, images: Pixels, form: Form = FORMS[0], *, seed: int = 0) -> onnx.ModelProto:
    """The int8 form of a bundle's model.

    Args:
        of: a float32 bundle.
        images: training images, uint8 (N, H, W, 3), of which `CALIBRATION_IMAGES` set the activations' ranges.
        form: what stays in float32, and what is clipped.
        seed: of the choice of images.
    """
    convolutions = [node.name for node in onnx.load(of.model).graph.node if node.op_type == "Conv"]
    chosen = np.random.default_rng(seed).permutation(len(images))[:CALIBRATION_IMAGES]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
        prepared, made = Path(folder, "prepared.onnx"), Path(folder, "int8.onnx")
        quant_pre_process(str(of.model), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(made),
            _Reader(images[chosen]),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,  # behind a ReLU there is no sign to spend a bit on, behind a GELU little
            weight_type=QuantType.QInt8,
            # seven bits: on processors without VNNI, sums of eight-bit products overflow sixteen bits in silence. The
            # shipped model's accuracy fell from 93 to about 50 % there (tried with qemu-x86_64 -cpu Haswell)
            reduce_range=True,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": form.percentile},
            op_types_to_quantize=["Conv", "MaxPool", "MatMul", "Gemm"],
            nodes_to_exclude=convolutions[: form.kept],
        )
        proto = onnx.load(made)
    to_onnx.tidy(proto)
    return proto


def measure(before: bundle.Bundle, accuracy: float, after: bundle.Bundle, split: Split) -> Gain:
    """Score the second bundle, and time both in turns, one thread, one image a run.

    Args:
        before: the float32 bundle.
        accuracy: of that on the split.
        after: an int8 form of it.
        split: held-out images.
    """
    found = evaluate.evaluate(after, split, "validation").accuracy
    return Gain(accuracy, found, compare.speed(before, after).ratio)


def check(gain: Gain) -> None:
    """Raise `NotWorthIt` unless accuracy and speed hold."""
    if not gain.is_exact:
        raise NotWorthIt(
            f"int8 loses {gain.before - gain.after:.2%} of validation accuracy "
            f"({gain.before:.2%} to {gain.after:.2%}); at most {LARGEST_LOSS:.1%} is allowed, so nothing was published"
        )
    if gain.speed < LEAST_GAIN:
        raise NotWorthIt(
            f"int8 is {gain.speed:.2f} times as fast as float32 on this processor; "
            f"{LEAST_GAIN:g} times is the least that is worth it, so nothing was published"
        )


def run(
    of: bundle.Bundle,
    source: str,
    output: Path,
    console: Console,
    other: Path | None = None,
    *,
    command: str = "kernelscope quantize",
) -> bundle.Bundle:
    """Quantise a bundle, check and score it, and publish it as another version of the same model.

    The float32 model stays beside the int8 one, for looking inside, unless it is larger than `LARGEST_TWIN`.

    Args:
        of: a float32 bundle.
        source: the labelled images that it was trained on; see `data.load`.
        output: the repository to publish into.
        console: where progress is shown.
        other: a folder of images of what the model is to be unsure of, beside those that are made.
        command: what a person typed, for the card.

    Raises:
        UsageError: it is int8 already, or those are not the images that it was trained on.
        NotWorthIt: it loses too much accuracy or gains too little speed.
    """
    card = of.card
    if card.cost.dtype != "float32":
        raise UsageError(f"{of.folder} is {card.cost.dtype or 'of unknown type'}; quantise a float32 bundle")
    with counting(console, "reading images") as progress:
        images = dataset.load_for(card, source, progress)
    if not dataset.trained_on(card, images):
        raise UsageError(f"{source} is not what {of.folder} was trained on ({card.data.name}): give those data")
    strange = ood.read(other, images.size, card.resize_mode) if other else None
    name = of.folder.absolute().parent.name
    exact = evaluate.evaluate(of, images.validation, "validation").accuracy
    with repository.staging(output, name) as staged:
        for form in FORMS:
            proto = convert(of, images.train.images, form)
            gain = measure(of, exact, to_onnx.write(proto, card, staged), images.validation)
            if gain.is_exact:
                break
        check(gain)
        split, which = (images.test, "test") if images.test else (images.validation, "validation")
        draft = bundle.Bundle(staged, card)
        score = evaluate.evaluate(draft, split, which)
        doubt = ood.doubt(lambda images: evaluate.logits(draft, images), card.temperature, images.validation, strange)
        cost = dataclasses.replace(
            card.cost,
            parity=None,  # which was the float32 form's
            dtype="int8",
            float32_convolutions=form.kept,
            hardware=provenance.hardware(),
            latency_ms=round(evaluate.latency(draft), 2),
            images_per_second=round(evaluate.throughput(draft)),
            speed_over_float32=round(gain.speed, 2),
            validation_accuracy_over_float32=round(gain.after - gain.before, 4),
        )
        card = dataclasses.replace(
            card,
            unsure_below=doubt.threshold,
            cost=cost,
            training=dataclasses.replace(card.training, quantised_by=command),
            accuracy=dataclasses.replace(
                score.describe(), unsure=doubt.describe(), corruptions=corruptions.measure(draft, split, which)
            ),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        report.write(to_onnx.write(proto, card, staged), score, split.images, [])
        if of.model.stat().st_size <= LARGEST_TWIN:
            shutil.copyfile(of.model, staged / bundle.FLOAT32)
        console.print(
            f"{gain.speed:.2f} times as fast, validation accuracy {gain.before:.2%} before, {gain.after:.2%} after"
            f"{'; the first convolution stays in float32' if form.kept else ''}",
            highlight=False,
            soft_wrap=True,
        )
        return bundle.read(repository.publish(staged))
