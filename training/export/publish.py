"""The last steps of a training and of a quantisation: measure, score, describe and publish a model as a bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import keras
import onnx
from rich.console import Console

from contract import repository
from contract.bundle import FLOAT32, Bundle, read
from contract.card import Card
from contract.network import half_precision
from contract.preprocessing import Pixels
from training import provenance
from training.data.dataset import Dataset
from training.evaluation import corruptions, evaluate, ood
from training.export import model_file, report, to_onnx
from training.loop.progress import Row, counting


def publish(
    proto: onnx.ModelProto,
    card: Card,
    dataset: Dataset,
    output: Path,
    console: Console,
    *,
    reference: keras.Model | None = None,
    held_out: ood.Confidence | None = None,
    other: Pixels | None = None,
    history: Sequence[Row] = (),
    float32: Path | None = None,
) -> Bundle:
    """Measure and score a model, write its bundle with card, README and report, and give it the next version.

    Args:
        proto: the model.
        card: what is known of it before it is measured. This function adds the rejection threshold, if it has none,
            the accuracy, and to the cost the size, parity, latency, throughput and hardware.
        dataset: scored on its test split, or on the validation split where it has none.
        output: the repository to publish into.
        console: where progress is shown.
        reference: the Keras network that the model must agree with; None for an int8 form, which differs.
        held_out: the confidence of answers to held-out images that the rejection threshold is fitted on; None: that of
            the model's answers to the validation images.
        other: further out-of-distribution images for the rejection threshold.
        history: the epochs of the training, for the report.
        float32: the float32 form of an int8 model, which is kept beside it; None for none.

    Returns:
        The published bundle.

    Raises:
        ExportError: the model and the reference differ too much.
        BundleError: the repository cannot be written to.
        OSError: the disk is full.
    """
    split, name = (dataset.test, "test") if dataset.test else (dataset.validation, "validation")
    with repository.staging(output, card.name) as staged:
        # The card has figures that are measured on the model file, and stands in that file itself. So the model is
        # first saved without a card, to be measured, and the bundle is written once all figures are known.
        draft = model_file.save_draft(proto, card, staged)
        parity = None if reference is None else to_onnx.check_parity(draft, reference, dataset.validation.images)
        validation = dataset.validation
        if held_out is None:
            logits = evaluate.unsmoothed_logits(draft, validation.images)
            held_out = ood.Confidence.of(logits, validation.targets, card.temperature)
        rejection = ood.fit_threshold(
            lambda images: evaluate.unsmoothed_logits(draft, images),
            card.temperature,
            held_out,
            validation.images,
            other,
            threshold=card.unsure_below or None,
        )
        cost = dataclasses.replace(
            card.cost,
            hardware=provenance.hardware(),
            parity=parity,
            latency_ms=round(evaluate.latency(draft), 2),
            images_per_second=round(evaluate.throughput(draft)),
        )
        with counting(console, f"the {name} split") as progress:
            score = evaluate.evaluate(draft, split, name, progress)
        with counting(console, "corrupted images") as progress:
            corrupted = corruptions.measure(draft, split, name, progress=progress)
        card = dataclasses.replace(
            card,
            unsure_below=rejection.threshold,
            accuracy=dataclasses.replace(score.describe(), unsure=rejection.describe(), corruptions=corrupted),
            cost=cost,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        report.write(model_file.write(proto, card, staged), score, split.images, history)
        if float32:
            onnx.save(half_precision.compact(onnx.load(float32)), staged / FLOAT32)
        return read(repository.publish(staged))
