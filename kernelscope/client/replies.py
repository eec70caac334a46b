"""What the service replies, as dataclasses. Fields that this version does not know are left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from kernelscope.client.errors import UnexpectedReply

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Answer:
    """One class: its name, its index, and its calibrated probability."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What is in one image.

    Attributes:
        model, version: which model answered.
        label, index, probability: the most probable class.
        unsure: whether the probability is below the threshold on the model's card.
        top: the most probable classes, in order.
    """

    model: str
    version: int
    label: str
    index: int
    probability: float
    unsure: bool
    top: tuple[Answer, ...]


@dataclass(frozen=True)
class Rejected:
    """In place of a prediction: why an image of several has none."""

    code: str
    message: str


@dataclass(frozen=True)
class Model:
    """A model that is served.

    Attributes:
        name, version: of the model.
        default: whether it answers requests that name none.
        labels: the class names, in the order of `Answer.index`.
        height, width: of its input, in pixels.
        accuracy: as its card has it; None where it was not scored.
    """

    name: str
    version: int
    default: bool
    labels: tuple[str, ...]
    height: int
    width: int
    accuracy: float | None


@dataclass(frozen=True)
class Health:
    """How the service is.

    Attributes:
        status: `ok`, or in a word what it is not.
        version: the service's.
        uptime_seconds: since it started.
        models: the versions that answer, by model.
        waiting_images: in queues.
        processes: that serve.
    """

    status: str
    version: str
    uptime_seconds: float
    models: dict[str, list[int]]
    waiting_images: int
    processes: int


def prediction(raw: Any) -> Prediction:
    """Read a reply to `POST /predict`. Raises `UnexpectedReply`."""
    return _read(_prediction, raw)


def predictions(raw: Any, count: int) -> list[Prediction | Rejected]:
    """Read a reply to `POST /predict/batch` of so many images. Raises `UnexpectedReply`."""
    answers = _read(lambda body: [_prediction_or_error(item) for item in body["predictions"]], raw)
    if len(answers) != count:
        raise UnexpectedReply(f"the reply has {len(answers)} answers to {count} images")
    return answers


def models(raw: Any) -> list[Model]:
    """Read a reply to `GET /models`. Raises `UnexpectedReply`."""
    return _read(lambda body: [_model(item) for item in body["models"]], raw)


def card(raw: Any) -> dict[str, Any]:
    """Read a reply to `GET /models/{name}`: the card alone. Raises `UnexpectedReply`."""
    return _read(lambda body: dict(body["card"]), raw)


def health(raw: Any) -> Health:
    """Read a reply to `GET /health`. Raises `UnexpectedReply`."""
    names = ("status", "version", "uptime_seconds", "models", "waiting_images", "processes")
    return _read(lambda body: Health(**{name: body[name] for name in names}), raw)


def _read(reader: Callable[[Any], _Value], raw: Any) -> _Value:
    try:
        return reader(raw)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise UnexpectedReply(f"the reply is not one of a Kernelscope service: it lacks {error}") from None


def _prediction(raw: Any) -> Prediction:
    return Prediction(
        model=raw["model"],
        version=raw["version"],
        label=raw["label"],
        index=raw["index"],
        probability=raw["probability"],
        unsure=raw["unsure"],
        top=tuple(Answer(item["label"], item["index"], item["probability"]) for item in raw["top"]),
    )


def _prediction_or_error(raw: Any) -> Prediction | Rejected:
    return Rejected(raw["error"]["code"], raw["error"]["message"]) if "error" in raw else _prediction(raw)


def _model(raw: Any) -> Model:
    names = ("name", "version", "default", "height", "width", "accuracy")
    return Model(labels=tuple(raw["labels"]), **{name: raw[name] for name in names})
