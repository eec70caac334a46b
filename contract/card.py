"""A model's card: what serving needs to run it, and facts for people.

`card.json` has a `format`. Format 2 is written; format 1 is read with the same answers, its keys `fit`, `pictures` and
`pictures_per_second` being today's `resize_mode`, `images` and `images_per_second`.

Unknown keys: at the top level of a format-2 card they are refused by name, because a newer key may change how the model
must be used, and must not fall back to a default in silence. In the parts (`data`, `training`, `accuracy`, `cost`),
which are facts for people, they are ignored. Format 1 is frozen: its readers ignored unknown keys, so these still are;
only keys that format 2 introduced are refused there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from contract import typed_json
from contract.errors import BundleError
from contract.preprocessing import ResizeMode
from contract.typed_json import Range

FORMAT: Final = 2
"""The format that this code writes; it reads this one and older ones."""

LARGEST_SIDE: Final = 4096
"""Pixels: the largest height and width of an input."""

Count = Annotated[int, Range(0)]
Share = Annotated[float, Range(0, 1)]
Amount = Annotated[float, Range(0)]
HeldOut = Annotated[float, Range(0, 1, without_high=True)]
Side = Annotated[int, Range(1, LARGEST_SIDE)]
Temperature = Annotated[float, Range(0, 1000, without_low=True)]

_RENAMED_SINCE_1: Final = {"fit": "resize_mode", "pictures": "images", "pictures_per_second": "images_per_second"}


@dataclass(frozen=True)
class Data:
    """The labelled images that a model was trained on.

    Attributes:
        name: a name for the data set.
        checksum: of its source, `sha256:` and 64 hexadecimal digits.
        train, validation, test: images in each split.
        held_out: fractions of the training images that became the validation and the test split; 0 for a split that
            the source has itself, or that does not exist.
        skipped: images that could not be read.
    """

    name: str | None = None
    checksum: str | None = None
    train: Count | None = None
    validation: Count | None = None
    test: Count | None = None
    held_out: tuple[HeldOut, HeldOut] | None = None
    skipped: Count | None = None


@dataclass(frozen=True)
class Backbone:
    """The pre-trained network that a model began as.

    Attributes:
        name: what `--backbone` takes.
        package: the registry's package that holds the weights, with its version.
        checksum: of the file of weights, `sha256:` and 64 hexadecimal digits.
        licence: of the weights, an SPDX identifier.
        source: who trained it, and on what.
        is_tuned: whether it was changed here; if not, all but the last layer is as it came.
        frozen_accuracy: accuracy of a linear head on the unchanged features, by cross-validation on training and
            validation images.
    """

    name: str
    package: str | None = None
    checksum: str | None = None
    licence: str | None = None
    source: str | None = None
    is_tuned: bool | None = None
    frozen_accuracy: Share | None = None


@dataclass(frozen=True)
class Original:
    """The model that was imported, as `kernelscope import` found it.

    Attributes:
        file: its name.
        checksum: of the file, `sha256:` and 64 hexadecimal digits.
        producer: the program that wrote it, with its version.
        opset: of its operators.
        input: its input: name, layout, type, range and normalisation.
        output: its output, and what that gives.
        batching: how it takes several images: `any`, `freed` (its batch was fixed) or `one by one`.
    """

    file: str | None = None
    checksum: str | None = None
    producer: str | None = None
    opset: Count | None = None
    input: str | None = None
    output: str | None = None
    batching: str | None = None


@dataclass(frozen=True)
class Training:
    """How a model was made.

    Attributes:
        recipe: the recipe's name.
        command: the command line of the training.
        seed: of weights, order and augmentation.
        epochs: passes over the training images.
        batch_size: images a step.
        backbone: the pre-trained network that it began as.
        original: the model that it was imported from.
        teacher: the bundle that was distilled, with its SHA-256.
        initial: the bundle whose weights the training started from, with its SHA-256.
        class_weights: the weight of each class in the loss, by label; empty where all count the same.
        seconds: wall time of the training.
        precision: `float32` or `mixed_bfloat16`.
        hardware: processor and accelerator.
        commit: of the source code.
        versions: the packages that decide what a run computes.
        interpolated_by: the command line that mixed its weights with those that the training started from.
        interpolated_share: of the training's weights in that mixture.
        quantised_by: the command line that made the int8 form.
    """

    recipe: str | None = None
    command: str | None = None
    seed: Count | None = None
    epochs: Count | None = None
    batch_size: Count | None = None
    backbone: Backbone | None = None
    original: Original | None = None
    teacher: str | None = None
    initial: str | None = None
    class_weights: dict[str, Amount] = field(default_factory=dict)
    seconds: Amount | None = None
    precision: str | None = None
    hardware: str | None = None
    commit: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    interpolated_by: str | None = None
    interpolated_share: Share | None = None
    quantised_by: str | None = None


@dataclass(frozen=True)
class Unsure:
    """Fractions of images that are called unsure, because their probability is below `Card.unsure_below`.

    Attributes:
        right: of correctly classified held-out images.
        wrong: of misclassified held-out images.
        unknown: of out-of-distribution images, by kind.
    """

    right: Share
    wrong: Share
    unknown: dict[str, Share] = field(default_factory=dict)


@dataclass(frozen=True)
class Corruptions:
    """Accuracy on corrupted images (Hendrycks and Dietterich 2019, arXiv:1903.12261).

    Attributes:
        split: the split that the images are from.
        images: how many there were.
        accuracy: fraction classified correctly, by corruption; `clean` is that of the same images as they are.
    """

    split: str
    images: Count
    accuracy: dict[str, Share] = field(default_factory=dict)


@dataclass(frozen=True)
class Accuracy:
    """How well a model does on labelled images.

    Attributes:
        split: the split that all figures here are from, but those of `unsure`.
        images: how many there were.
        accuracy: fraction classified correctly.
        balanced_accuracy: mean recall over the classes.
        macro_f1: mean over the classes of the harmonic mean of precision and recall.
        interval: 95 % Wilson score interval of `accuracy`.
        cross_entropy: mean, in nats.
        calibration_error: expected calibration error over 15 bins.
        uncalibrated_error: the same of the softmax of the logits as they are.
        per_class: recall by label.
        confusion: images by class (rows) and prediction (columns); empty beyond a hundred classes.
        above_chance: whether the model is better than guessing among its classes, by the lower end of a 95 % interval
            of its balanced accuracy.
        unsure: what the rejection threshold rejects.
        corruptions: accuracy on corrupted images.
    """

    split: str | None = None
    images: Count | None = None
    accuracy: Share | None = None
    balanced_accuracy: Share | None = None
    macro_f1: Share | None = None
    interval: tuple[Share, Share] | None = None
    cross_entropy: Amount | None = None
    calibration_error: Share | None = None
    uncalibrated_error: Share | None = None
    per_class: dict[str, Share] = field(default_factory=dict)
    confusion: tuple[tuple[Count, ...], ...] = ()
    above_chance: bool | None = None
    unsure: Unsure | None = None
    corruptions: Corruptions | None = None


@dataclass(frozen=True)
class Layer:
    """One layer that computes or shrinks.

    Attributes:
        name: the layer's name.
        kind: convolution, depthwise convolution, pooling, global pooling or dense.
        kernel, stride, padding: of a sliding window; padding is what is added on either side, and ends in a half
            where one side has one more. 0 where nothing slides.
        output: height, width and channels; 1, 1 and a count behind the last pooling.
        receptive_field: the side, in pixels of the image, of what one output value depends on.
        parameters: numbers that are learnt or kept.
        multiply_adds: for one image.
    """

    name: str
    kind: str
    kernel: Count
    stride: Count
    padding: Amount
    output: tuple[Count, Count, Count]
    receptive_field: Count
    parameters: Count
    multiply_adds: Count


@dataclass(frozen=True)
class Cost:
    """What a model costs to run.

    Attributes:
        parameters: numbers that are learnt or kept.
        multiply_adds: for one image.
        bytes: size of the model file.
        dtype: `float32`, `float16` or `int8`.
        float32_convolutions: how many of an int8 form's first convolutions are in float32.
        hardware: the processor that times were measured on.
        parity: largest difference in probability from the network that it was made of, in Keras or as it was imported.
        latency_ms: median time of one image on one thread, in milliseconds.
        images_per_second: in batches of 64 on all cores.
        speed_over_float32: how many times as fast as the float32 form.
        validation_accuracy_over_float32: validation accuracy minus that of the float32 form.
        agreement_with_float32: fraction of validation and training images that have the same class in float32.
        layers: the network, layer by layer.
    """

    parameters: Count | None = None
    multiply_adds: Count | None = None
    bytes: Count | None = None
    dtype: str | None = None
    float32_convolutions: Count | None = None
    hardware: str | None = None
    parity: Amount | None = None
    latency_ms: Amount | None = None
    images_per_second: Count | None = None
    speed_over_float32: Amount | None = None
    validation_accuracy_over_float32: float | None = None
    agreement_with_float32: Share | None = None
    layers: tuple[Layer, ...] = ()


@dataclass(frozen=True)
class Card:
    """What is known of a model. In the parts, what is not known is None or empty, and is left out of `card.json`.

    Attributes:
        name: the model's name, the folder above the version.
        labels: one name for each class, in the order of the outputs.
        height, width: size of the input in pixels.
        resize_mode: how an image of another shape is brought to this size.
        temperature: what the logits are divided by, inside the graph, before the softmax (Guo et al. 2017).
        label_smoothing: what training spread of each target over all classes, and the graph takes back before that;
            None where it takes none.
        unsure_below: rejection threshold: an answer whose probability is lower is called unsure. 0 rejects nothing.
        data: the labelled images.
        training: how the model was made.
        accuracy: how well it does.
        cost: what it costs to run.
        created: when, ISO 8601, UTC.
    """

    name: str
    labels: tuple[str, ...]
    height: Side
    width: Side
    resize_mode: ResizeMode = "crop"
    temperature: Temperature = 1.0
    label_smoothing: Share | None = None
    unsure_below: Share = 0.0
    data: Data = Data()
    training: Training = Training()
    accuracy: Accuracy = Accuracy()
    cost: Cost = Cost()
    created: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The card as JSON has it, without what is not known."""
        return {**typed_json.encode(self), "format": FORMAT}

    def to_json(self) -> str:
        """The card as indented JSON, ending in a line feed."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Card:
        """Read a card.

        Args:
            text: a card of format 2, as `to_json` wrote it, or of format 1.
            where: what to call it in an error.

        Raises:
            BundleError: not JSON, of a newer format, with an unknown key at the top level, or with a value that a
                field cannot have; the message has the key's path.

        Example:
            >>> card = Card(name="pets", labels=("cat", "dog"), height=32, width=32)
            >>> Card.from_json(card.to_json(), "card.json") == card
            True
        """
        try:
            raw = typed_json.loads(text)
            if not isinstance(raw, dict):
                raise BundleError(f"{where} holds a {type(raw).__name__}, not an object")
            card = typed_json.decode(cls, _in_current_format(raw), refuse_unknown=True)
            _check(card)
        except typed_json.FieldError as error:
            raise BundleError(f"{where}: {error}") from None
        return card


def _in_current_format(raw: dict[str, Any]) -> dict[str, Any]:
    """The keys of a card of any format that is read, in the names of the newest, without `format`."""
    number = raw.get("format", FORMAT)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise typed_json.FieldError("`format` must be a whole number at least 1")
    if number > FORMAT:
        raise typed_json.FieldError(f"format {number} is newer than {FORMAT}, which is read here: upgrade kernelscope")
    if number == 1:
        raw = _from_format_1(raw)
    return {key: value for key, value in raw.items() if key != "format"}


def _from_format_1(raw: dict[str, Any]) -> dict[str, Any]:
    """A card of format 1 in the names of format 2."""
    if "resize_mode" in raw:  # ignoring it, as readers of format 1 did, would resize otherwise than the card says
        raise typed_json.FieldError("`resize_mode` is a key of format 2, and the card says format 1")

    def renamed(part: Any) -> Any:
        if not isinstance(part, dict):
            return part
        return {_RENAMED_SINCE_1.get(key, key): value for key, value in part.items()}

    known = set(Card.__dataclass_fields__)
    return {key: renamed(value) for key, value in renamed(raw).items() if key in known}


def _check(card: Card) -> None:
    """Raise `FieldError` for what the fields' types cannot say."""
    if not card.name:
        raise typed_json.FieldError("`name` must not be empty")
    if len(card.labels) < 2:
        raise typed_json.FieldError("`labels` must list two classes or more")
    if not all(card.labels):
        raise typed_json.FieldError("every one of `labels` must have a name")
    if len(set(card.labels)) != len(card.labels):
        raise typed_json.FieldError("`labels` names a class twice")
