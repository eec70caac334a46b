"""Mix a fine-tuned model with the one that it was fine-tuned from, and publish the best mixture.

Fine-tuning for other images, such as JPEG, costs accuracy on the images of before. On the straight line between the
weights of the two models there are often some that are better at both than either: Wortsman et al. 2022, "Robust
fine-tuning of zero-shot models", arXiv:2109.01903.
"""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import numpy_helper
from rich.console import Console

from contract.bundle import Bundle
from contract.card import Card, Cost
from contract.errors import KernelscopeError, UsageError
from contract.network import half_precision
from training.data import dataset as datasets
from training.data.split import Split
from training.evaluation import calibrate, evaluate, ood
from training.export import model_file
from training.export.publish import publish
from training.loop.progress import counting

SHARES: Final = tuple(number / 10 for number in range(11))
"""The shares of the fine-tuned weights that are tried."""
QUALITY: Final = 75
"""The JPEG quality at which validation images are evaluated once more, unless another is asked for."""


class NoBetterMixture(KernelscopeError):
    """One of the two models is better than all that lies between; nothing is published."""


@dataclass(frozen=True)
class Point:
    """A mixture.

    Attributes:
        share: of the fine-tuned weights, in [0, 1].
        accuracy: on the validation images.
        jpeg_accuracy: on these as JPEG; None if that is not asked for.
    """

    share: float
    accuracy: float
    jpeg_accuracy: float | None

    @property
    def criterion(self) -> float:
        """What the best is chosen by: the accuracy, or the mean of both."""
        return self.accuracy if self.jpeg_accuracy is None else (self.accuracy + self.jpeg_accuracy) / 2


def mixed(base: onnx.ModelProto, tuned: onnx.ModelProto, share: float) -> onnx.ModelProto:
    """Return the fine-tuned graph with weights on the line between both.

    Args:
        base: what was fine-tuned, in float32.
        tuned: what became of it; the same network.
        share: of the fine-tuned weights; 1 gives `tuned`.

    Raises:
        UsageError: these are two networks.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(tuned)
    theirs = {tensor.name: tensor for tensor in base.graph.initializer}
    ours = {tensor.name: tensor for tensor in proto.graph.initializer}
    pairs = list(zip(base.graph.node, proto.graph.node, strict=False))
    if len(base.graph.node) != len(proto.graph.node) or any(one.op_type != other.op_type for one, other in pairs):
        raise UsageError("the two models are different networks: give a model and the one that it was fine-tuned from")
    done = set[str]()
    for one, other in pairs:
        for before, after in zip(one.input, other.input, strict=True):
            if after not in ours or before not in theirs or after in done:
                continue
            done.add(after)
            weights = numpy_helper.to_array(ours[after])
            if weights.ndim and weights.dtype == np.float32:  # a scalar is the network's own, or its temperature
                first = numpy_helper.to_array(theirs[before])
                if first.shape != weights.shape:
                    raise UsageError(
                        f"the two models are different networks: one has a layer of {weights.shape} weights, the other "
                        f"of {first.shape}"
                    )
                ours[after].CopyFrom(numpy_helper.from_array((1 - share) * first + share * weights, after))
    return proto


def curve(base: onnx.ModelProto, tuned: onnx.ModelProto, card: Card, validation: Split, quality: int) -> list[Point]:
    """Return the accuracy of each mixture on validation images, and on these as JPEG unless `quality` is 0."""
    judges = validation.with_jpeg(quality)
    points = []
    with tempfile.TemporaryDirectory() as folder:
        for share in SHARES:
            draft = model_file.save_draft(mixed(base, tuned, share), card, Path(folder))
            right = evaluate.predict_logits(draft, judges.images).argmax(1) == judges.targets
            accuracies = right.reshape(-1, len(validation)).mean(1).tolist()
            points.append(Point(share, accuracies[0], accuracies[1] if quality else None))
    return points


def run(
    base: Bundle,
    tuned: Bundle,
    source: str,
    output: Path,
    console: Console,
    ood_folder: Path | None = None,
    *,
    quality: int = QUALITY,
    command: str = "kernelscope interpolate",
) -> Bundle:
    """Publish the best mixture of two models, in float32, as another version of the fine-tuned one.

    Args:
        base: a bundle with a float32 form.
        tuned: a bundle whose training started from it.
        source: the labelled images that both were trained on; see `training.data.dataset.load`. Those that were held
            out for validation choose the mixture.
        output: the repository to publish into.
        console: where progress and the curve are shown.
        ood_folder: a folder of out-of-distribution images for the rejection threshold, beside the synthetic ones.
        quality: of JPEG, at which validation images are evaluated once more; 0 for no such evaluation.
        command: the command line, for the card.

    Raises:
        UsageError: a bundle has no float32 form, the networks differ, or these are not the images that both were
            trained on.
        NoBetterMixture: one of the two is better than what lies between.
    """
    first, second = (_float32(bundle) for bundle in (base, tuned))
    card = tuned.card
    with counting(console, "reading images") as progress:
        dataset = datasets.load_for(card, source, progress)
    for bundle in (base, tuned):
        if not datasets.trained_on(bundle.card, dataset) or bundle.card.data.validation != card.data.validation:
            raise UsageError(f"{source} is not what {bundle.folder} was trained on, or was split in another way for it")
    points = curve(first, second, card, dataset.validation, quality)
    best = max(points, key=lambda point: point.criterion)
    for point in points:
        as_jpeg = "" if point.jpeg_accuracy is None else f", {point.jpeg_accuracy:.2%} as JPEG {quality}"
        console.print(
            f"{point.share:4.0%} fine-tuned: {point.accuracy:.2%} of the validation images{as_jpeg}"
            f"{'  <- the best' if point is best else ''}",
            highlight=False,
        )
    ends = {base.folder: points[0].criterion, tuned.folder: points[-1].criterion}
    better = max(ends, key=ends.__getitem__)
    if best.criterion <= ends[better]:
        raise NoBetterMixture(f"nothing between the two models is better than {better}: nothing was published")
    other = ood.read_folder(ood_folder, dataset.size, card.resize_mode) if ood_folder else None
    proto = mixed(first, second, best.share)
    judges = dataset.validation.with_jpeg(quality)
    with tempfile.TemporaryDirectory() as folder:
        logits = evaluate.unsmoothed_logits(model_file.save_draft(proto, card, Path(folder)), judges.images)
    temperature = calibrate.temperature(logits, judges.targets)
    model_file.set_calibration(proto, temperature, card.label_smoothing)
    card = dataclasses.replace(
        card,
        name=tuned.folder.absolute().parent.name,
        temperature=temperature,
        unsure_below=0.0,  # fitted anew
        training=dataclasses.replace(
            card.training, interpolated_by=command, interpolated_share=best.share, quantised_by=None
        ),
        cost=Cost(
            parameters=card.cost.parameters,
            multiply_adds=card.cost.multiply_adds,
            dtype="float32",
            layers=card.cost.layers,
        ),
    )
    return publish(proto, card, dataset, output, console, other=other)


def _float32(bundle: Bundle) -> onnx.ModelProto:
    if bundle.float32 is None:
        raise UsageError(f"{bundle.folder} has no float32 form: give a float32 bundle")
    proto = half_precision.expand(onnx.load(bundle.float32))
    model_file.set_calibration(proto, 1.0)  # each has its own, which may be of other nodes
    return proto
