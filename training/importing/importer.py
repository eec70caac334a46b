"""An ONNX file and class names -> a published bundle: find out, wrap, compare, calibrate, score, publish."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from rich.console import Console
from rich.markup import escape

from contract import repository
from contract.bundle import README, Bundle, read
from contract.card import Card, Cost, Original, Training
from contract.errors import BundleNotFound
from contract.network.errors import CannotExplain
from contract.network.form import Form
from contract.network.reading import QUANTISATION
from contract.preprocessing import Pixels, ResizeMode
from training import provenance
from training.evaluation import calibrate, evaluate, ood
from training.export import model_file, report
from training.importing import class_output, image_input, labels, original, parity, samples, source, wrapping
from training.importing.errors import CannotImport
from training.importing.image_input import ImageInput, Size
from training.importing.original import Array
from training.importing.parity import Disagreement, Parity
from training.importing.preparation import Layout, Preparation
from training.importing.samples import Samples
from training.importing.source import Source
from training.importing.wrapping import Batching, Plan
from training.loop.progress import counting

RECIPE: Final = "imported"
_PARITY_IMAGES: Final = 64
_PACKAGES: Final = ("python", "onnx", "onnxruntime", "numpy")
"""What an import runs on."""
_INTEGERS: Final = ("QLinear", "Integer")
"""What the names of operators on integers hold, beside QuantizeLinear and DequantizeLinear."""


@dataclass(frozen=True)
class Options:
    """What is imported, and how.

    Attributes:
        model: the .onnx file.
        labels: the file of class names, or the names.
        name: the model's name in the repository.
        output: the repository to publish into.
        size: height and width; needed where the graph leaves them open.
        layout: `nchw` or `nhwc`; needed where the graph does not tell.
        mean, std: by channel, of values in [0, 1], in the network's order of channels.
        value_range: what black and white are to the network, instead of mean and deviation; by default 0 and 1.
        bgr: whether the network takes blue first.
        output_name: which of several outputs has the answer.
        resize_mode: how an image of another shape is brought to size.
        data: labelled images to calibrate and to score on; None for none.
        command: the command line, for the card.
    """

    model: Path
    labels: Path | tuple[str, ...]
    name: str
    output: Path
    size: Size | None = None
    layout: Layout | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    value_range: tuple[float, float] | None = None
    bgr: bool = False
    output_name: str | None = None
    resize_mode: ResizeMode = "crop"
    data: str | None = None
    command: str | None = None


def run(options: Options, console: Console) -> Bundle:
    """Import a model.

    Args:
        options: what, and how.
        console: where it is said what was found.

    Returns:
        The published bundle.

    Raises:
        CannotImport: the file or what was said of it does not fit; the message says what would.
        KernelscopeError: the labelled images cannot be read, or the repository cannot be written to.
        OSError: the disk is full.
    """
    repository.check_name(options.name)
    names = labels.read(options.labels) if isinstance(options.labels, Path) else labels.check(options.labels, "labels")
    file = source.read(options.model)
    taken = image_input.find(file, options.layout, options.size)
    prepared = _preparation(options, file, taken)
    card = Card(options.name, names, taken.height, taken.width, options.resize_mode)
    own = _samples(options, card, console)
    pixels = original.images(taken.height, taken.width) if own is None else own.first(_PARITY_IMAGES)
    values, output = _answers(options, original.Original(file, taken, prepared), file, pixels, len(names))
    plan = Plan(file, taken, prepared, output, len(names))
    card = dataclasses.replace(card, training=_training(options, plan))
    _check_new(options, card)
    with repository.staging(options.output, options.name) as staged:
        batching, compared = _wrap(plan, card, staged, pixels, values)
        origin = dataclasses.replace(card.training.original or Original(), batching=batching)
        card = dataclasses.replace(card, training=dataclasses.replace(card.training, original=origin))
        _tell(console, plan, batching, compared)
        card = card if own is None else _calibrated(plan, card, staged, batching, own, console)
        proto = wrapping.build(plan, batching, card.temperature)
        draft = model_file.save_draft(proto, card, staged)
        card = _scored(draft, card, own, console)
        card = dataclasses.replace(
            card,
            cost=_cost(draft, proto, compared, console),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        model_file.write(proto, card, staged)
        card = read(staged).card  # with the size of the file
        (staged / README).write_text(report.markdown(card), encoding="utf-8")
        return read(repository.publish(staged))


def _preparation(options: Options, file: Source, given_input: ImageInput) -> Preparation:
    """What the options say of values, checked against the input."""
    prepared = Preparation(
        given_input.height,
        given_input.width,
        given_input.channels,
        given_input.layout,
        given_input.dtype,
        bgr=options.bgr,
    )
    if options.bgr and given_input.channels == 1:
        raise CannotImport(f"--bgr does not fit input {given_input.name!r}, which takes grey")
    given = [name for name in ("mean", "std", "value_range") if getattr(options, name) is not None]
    if given_input.dtype == "uint8":
        if given:
            raise CannotImport(f"input {given_input.name!r} takes bytes, 0 to 255: leave out --mean, --std and --range")
        return dataclasses.replace(prepared, low=0, high=255)
    if "value_range" in given and len(given) > 1:
        raise CannotImport("--range does not go with --mean and --std, which are of values in [0, 1]: give either")
    if len(given) == 1 and "value_range" not in given:
        missing = "std" if given == ["mean"] else "mean"
        raise CannotImport(f"--{given[0]} needs --{missing}: give both, {given_input.channels} numbers each")
    scaling = image_input.own_scaling(file, given_input.name)
    if scaling is not None and not given:
        raise CannotImport(
            f"{file.path} begins by multiplying its input with {scaling:.4g}, so it takes values of 0 to 255: add "
            "--range 0,255 (or --range 0,1, if that is meant)"
        )
    for name in ("mean", "std"):
        numbers = getattr(options, name)
        if numbers is not None and len(numbers) != given_input.channels:
            raise CannotImport(
                f"--{name} has {len(numbers)} numbers; input {given_input.name!r} has {given_input.channels} channels, "
                "one for each"
            )
        if numbers is not None and not np.isfinite(numbers).all():
            raise CannotImport(f"--{name} must be finite numbers, not {numbers}")
    if options.std is not None and min(options.std) <= 0:
        raise CannotImport(f"--std has {min(options.std):g}: a deviation is larger than 0")
    mean, std = options.mean or (), options.std or ()
    if options.value_range is None:
        return dataclasses.replace(prepared, mean=mean, std=std)
    low, high = options.value_range
    if not (np.isfinite([low, high]).all() and low < high):
        raise CannotImport(f"--range {low:g},{high:g} does not rise: give what black and what white is, such as 0,255")
    return dataclasses.replace(prepared, low=low, high=high)


def _samples(options: Options, card: Card, console: Console) -> Samples | None:
    if options.data is None:
        return None
    with counting(Console(stderr=True, quiet=console.quiet), "reading images") as progress:
        return samples.read(options.data, card, progress)


def _answers(
    options: Options, model: original.Original, file: Source, pixels: Pixels, classes: int
) -> tuple[Array, class_output.ClassOutput]:
    """The values of the original's output for images, and what they are."""
    measured = model.answers(pixels)
    output = class_output.find(file, measured, classes, options.output_name)
    again = model.answers(pixels[:1])[output.name]
    if not np.allclose(again, measured[output.name][:1], rtol=1e-3, atol=1e-4):
        raise CannotImport(
            f"{file.path} answers the same image differently each time: export it in inference mode (model.eval())"
        )
    return measured[output.name], output


def _training(options: Options, plan: Plan) -> Training:
    proto, output = plan.source.proto, plan.output
    what = output.kind if output.has_softmax or output.kind.startswith("logit") else f"{output.kind}, without a Softmax"
    origin = Original(
        file=plan.source.path.name.encode(errors="replace").decode(),
        checksum=f"sha256:{plan.source.checksum}",
        producer=" ".join(filter(None, (proto.producer_name, proto.producer_version))) or None,
        opset=plan.source.opset,
        input=f"{plan.image_input.name}: {plan.preparation.describe()}",
        output=f"{output.name}: {what}",
    )
    versions = {name: version for name, version in provenance.versions().items() if name in _PACKAGES}
    return Training(
        recipe=RECIPE, command=options.command, original=origin, commit=provenance.commit(), versions=versions
    )


def _check_new(options: Options, card: Card) -> None:
    """Raise `CannotImport` if the newest version is this model already."""
    try:
        newest = repository.find(options.output, options.name)
    except BundleNotFound:
        return
    there = newest.card
    origin = there.training.original
    is_alike = (there.labels, there.resize_mode, there.height, there.width) == (
        card.labels, card.resize_mode, card.height, card.width
    )  # fmt: skip
    is_same = origin is not None and dataclasses.replace(origin, batching=None) == card.training.original
    if options.data is None and is_alike and is_same:
        raise CannotImport(f"{newest.folder} is this model already, imported from the same file in the same way")


def _wrap(plan: Plan, card: Card, staged: Path, pixels: Pixels, values: Array) -> tuple[Batching, Parity]:
    """The first way to take several images that gives the original's answers."""
    largest = parity.LARGEST_IN_HALVES if _dtype(plan.source.proto) == "float16" else parity.LARGEST
    failures: list[Disagreement] = []
    for batching in plan.batchings():
        draft = model_file.save_draft(wrapping.build(plan, batching), card, staged)
        try:
            return batching, parity.measure(draft, pixels, values, plan.output, largest=largest)
        except Disagreement as error:
            failures.append(error)
    batch = plan.image_input.batch
    remedy = (
        f"its batch is fixed at {batch}: export it with a free one (dynamic_axes of torch.onnx.export)"
        if batch and batch > 1
        else "export it in inference mode (model.eval()), with a free batch"
    )
    raise CannotImport(f"{plan.source.path} does not fit: {failures[0]}; {remedy}")


def _tell(console: Console, plan: Plan, batching: Batching, compared: Parity) -> None:
    taken, kind = plan.image_input, plan.output.kind
    several = {
        "any": "",
        "freed": ", its fixed batch freed",
        "one by one": ", run on one image at a time (export it with a free batch, and several are run at once)",
    }[batching]
    console.print(
        f"input {escape(repr(taken.name))}: {taken.height}x{taken.width}, {plan.preparation.describe()}{several}\n"
        f"output {escape(repr(plan.output.name))}: {plan.classes} classes, as {kind}\n"
        f"parity: differs from the original by {compared.probability:.1e} in probability at most, and names the same "
        f"class for {compared.same} of {compared.images} images",
        highlight=False,
        soft_wrap=True,
    )


def _calibrated(plan: Plan, card: Card, staged: Path, batching: Batching, own: Samples, console: Console) -> Card:
    """The card with the temperature and the rejection threshold that labelled images give."""
    draft = model_file.save_draft(wrapping.build(plan, batching), card, staged)
    logits = evaluate.predict_logits(draft, own.calibration.images)
    temperature = calibrate.temperature(logits, own.calibration.targets)
    rejection = ood.fit_threshold(
        lambda images: evaluate.predict_logits(draft, images),
        temperature,
        ood.Confidence.of(logits, own.calibration.targets, temperature),
        own.calibration.images,
    )
    console.print(
        f"calibration on {len(own.calibration):,} images: temperature {temperature:g}, unsure below "
        f"{rejection.threshold:g}",
        highlight=False,
    )
    accuracy = dataclasses.replace(card.accuracy, unsure=rejection.describe())
    return dataclasses.replace(card, temperature=temperature, unsure_below=rejection.threshold, accuracy=accuracy)


def _scored(draft: Bundle, card: Card, own: Samples | None, console: Console) -> Card:
    if own is None:
        return card
    with counting(Console(stderr=True, quiet=console.quiet), f"the {own.name} images") as progress:
        score = evaluate.evaluate(draft, own.score, own.name, progress)
    return dataclasses.replace(card, accuracy=dataclasses.replace(score.describe(), unsure=card.accuracy.unsure))


def _cost(draft: Bundle, proto: onnx.ModelProto, compared: Parity, console: Console) -> Cost:
    """What the model costs to run; it is said whether the look inside is there."""
    multiply_adds = None
    try:
        form = Form(draft.model, draft.card.labels)
        multiply_adds = sum(layer.multiply_adds for layer in form.layers)
        console.print(f"look inside: {len(form.layers.all)} layers", highlight=False)
    except CannotExplain as error:
        console.print(f"no look inside: {error}", highlight=False, markup=False, soft_wrap=True)
    return Cost(
        parameters=sum(int(np.prod(tensor.dims)) for tensor in proto.graph.initializer if _is_weight(tensor)),
        multiply_adds=multiply_adds,
        dtype=_dtype(proto),
        hardware=provenance.processor(),
        parity=compared.probability,
        latency_ms=round(evaluate.latency(draft), 2),
        images_per_second=round(evaluate.throughput(draft)),
    )


def _is_weight(tensor: onnx.TensorProto) -> bool:
    return len(tensor.dims) > 0 and tensor.data_type not in (onnx.TensorProto.INT64, onnx.TensorProto.BOOL)


def _dtype(proto: onnx.ModelProto) -> str:
    operators = {node.op_type for node in model_file.nodes(proto)}
    if operators & QUANTISATION or any(word in operator for operator in operators for word in _INTEGERS):
        return "int8"
    weights = [tensor.data_type for tensor in proto.graph.initializer if _is_weight(tensor)]
    return "float16" if onnx.TensorProto.FLOAT16 in weights else "float32"
