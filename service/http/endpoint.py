"""A call that runs a model, in steps: one definition for FastAPI's route and for the fast path, which differ in how
they wait, and in nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol

from starlette.responses import Response

from contract.errors import ImageError
from contract.preprocessing import Pixels
from service.feedback.keeper import Feedback
from service.http.context import RequestContext
from service.http.errors import ApiError
from service.inference.loaded_model import LoadedModel
from service.inference.submission import Probabilities
from service.observability.metrics import Metrics
from service.settings import Settings

AT_ONCE_BYTES: Final = 32 * 1024
"""So many bytes of text are parsed on the event loop, in less than a millisecond."""


class Asked(Protocol):
    """What a request asks a model."""

    @property
    def tensor(self) -> Pixels | None:
        """Images as pixels, uint8 (N, H, W, 3); None where they are encoded."""

    @property
    def encoded(self) -> list[bytes]:
        """Encoded images; empty where they are pixels."""

    @property
    def timeout(self) -> float | None:
        """Seconds until the answer is of no use; None where the body does not say."""


class Endpoint(Protocol):
    """A call's steps. All but waiting for the body, for decoding and for the model is in them."""

    def parsed_bytes(self, headers: Mapping[str, str], length: int) -> int:
        """How many bytes of a body are text, which `read` parses; images and tensors are taken as they are.

        Args:
            headers: the request's, with names in lower case.
            length: bytes of the body.
        """

    def check(self, headers: Mapping[str, str], loaded: LoadedModel, settings: Settings) -> None:
        """Raise a `ApiError` for what is wrong before the body has come."""

    def read(self, headers: Mapping[str, str], body: bytes, loaded: LoadedModel, settings: Settings) -> Any:
        """What is asked, as an `Asked`. Raises `ApiError` for what is wrong with it.

        Args:
            headers: the request's, with names in lower case.
            body: all of it, unpacked.
            loaded: the model that is asked.
            settings: with the limits.
        """

    def undecodable(self, place: int, error: ImageError) -> Exception:
        """What to raise where the image at a place cannot be read."""

    def reply(self, asked: Any, loaded: LoadedModel, probabilities: Probabilities, settings: Settings) -> Response:
        """The reply, from probabilities, float32 (N, classes)."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """What is told of every answer.

    Attributes:
        metrics: counts the images of each API key.
        feedback: may keep images for a person to look at; None where that is not wanted.
    """

    metrics: Metrics
    feedback: Feedback | None

    def add(self, context: RequestContext, loaded: LoadedModel, images: Pixels, probabilities: Probabilities) -> None:
        """An answer, float32 (N, classes), to images, uint8 (N, H, W, 3); its request's id must be known."""
        if context.key:
            self.metrics.key_images.labels(context.key).inc(len(images))
        if self.feedback:
            self.feedback.offer(context.request_id, loaded, images, probabilities)


def deadline_exceeded(seconds: float) -> ApiError:
    """The refusal of a request whose time was up."""
    return ApiError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "deadline_exceeded",
        f"there was no answer within {seconds:g} s: ask again when there is less to do, or allow more time",
    )
