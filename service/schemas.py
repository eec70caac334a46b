"""What requests and replies look like; the OpenAPI document is made of these."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Base64Text = Annotated[str, Field(description="an encoded picture in base64, with or without a data: prefix")]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PictureRequest(_Request):
    """One picture as JSON."""

    image: Base64Text


class PicturesRequest(_Request):
    """Several pictures as JSON."""

    images: list[Base64Text]


class Answer(BaseModel):
    """One class and its probability."""

    label: str
    index: int
    probability: float


class Prediction(BaseModel):
    """What is in one picture: the likeliest class, and the likeliest few in order."""

    model: str
    version: int
    label: str
    index: int
    probability: float
    top: list[Answer]


class ErrorBody(BaseModel):
    """What was wrong, for programs and for people."""

    code: str
    message: str


class ErrorReply(BaseModel):
    """Every reply that is not a success."""

    error: ErrorBody


class BatchPrediction(BaseModel):
    """What is in each picture, in the order they were sent; an `error` in place of a picture that cannot be read."""

    model: str
    version: int
    predictions: list[Prediction | ErrorReply]


class ModelSummary(BaseModel):
    """A model that is served."""

    name: str
    version: int
    default: bool
    labels: list[str]
    height: int
    width: int
    accuracy: float | None


class RefusedVersion(BaseModel):
    """A version in the repository that cannot be served, and why."""

    name: str
    version: int
    reason: str


class ModelList(BaseModel):
    """Every version that is served, and every one that was refused."""

    models: list[ModelSummary]
    refused: list[RefusedVersion]


class ModelDetail(ModelSummary):
    """A model that is served, and its card."""

    card: dict[str, Any]


class Health(BaseModel):
    """How the service is, for people."""

    status: str
    version: str
    uptime_seconds: float
    models: dict[str, list[int]]
    waiting_pictures: int
    processes: int


class Probe(BaseModel):
    """How the service is, for an orchestrator."""

    status: str
