"""`POST /feedback`: a client says that an answer was wrong."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request

from service.feedback.keeper import Feedback
from service.feedback.recent import Answered
from service.http import body
from service.http.context import context_of
from service.http.deadline import deadline, infer
from service.http.errors import RETRY_SECONDS, ApiError
from service.http.json_reply import JsonReply
from service.routes.parameters import Model, Timeout, Version
from service.schemas import ONE_IMAGE, Accepted, ErrorReply, refused, takes
from service.state import answering_model, app_state

router = APIRouter(tags=["predict"])


@router.post(
    "/feedback",
    status_code=HTTPStatus.ACCEPTED,
    response_model=Accepted,
    responses=refused(ErrorReply, 400, 401, 403, 404, 408, 413, 415, 422, 429, 503),
    openapi_extra=takes(ONE_IMAGE, required=False),
)
async def feedback(
    request: Request,
    label: Annotated[str | None, Query(description="the class it is, one of the model's; left out if unknown")] = None,
    request_id: Annotated[
        str | None, Query(description="X-Request-ID of the answer, while it is remembered; else send the image")
    ] = None,
    index: Annotated[int, Query(ge=0, description="which image of that request")] = 0,
    model: Model = None,
    version: Version = None,
    timeout: Timeout = None,
) -> JsonReply:
    """Say that an answer was wrong: the image is kept with it, for a person to look at.

    Name the answer by `request_id`, or send the image again, in any form that `/predict` takes.
    """
    keeper = app_state(request).feedback
    if keeper is None:
        raise ApiError(HTTPStatus.FORBIDDEN, "feedback_off", "no images are kept here: set KERNELSCOPE_FEEDBACK")
    if request_id is None:
        answered, index = await _answer(request, model, version, timeout), 0
    else:
        answered = await _remembered(request, keeper, request_id, index)
    if label is not None and label not in answered.labels:
        raise ApiError(422, "invalid_parameter", f"label is {label[:80]!r}: {answered.model} has no such class")
    if not keeper.dispute(answered, index, label):
        refusal = {"code": "too_many_requests", "message": "more is disputed than is kept: try again in a moment"}
        return JsonReply({"error": refusal}, 429, headers={"Retry-After": str(RETRY_SECONDS)})
    return JsonReply({"accepted": True}, HTTPStatus.ACCEPTED)


async def _answer(request: Request, model: str | None, version: int | None, timeout: float | None) -> Answered:
    """The model's answer to the image in the body."""
    state = app_state(request)
    loaded = answering_model(request, model, version)
    async with deadline(request, timeout):
        sent = await body.one(request, state.settings.max_body, state.settings.timeout)
        pixels = await state.decoder.one(sent, loaded, context_of(request.scope))
        probabilities = await infer(request, loaded, pixels)
    return Answered(loaded.name, loaded.version, loaded.card.labels, pixels, probabilities)


async def _remembered(request: Request, keeper: Feedback, request_id: str, index: int) -> Answered:
    answered = keeper.find(request_id) or await app_state(request).group.answer_to(request_id)
    if answered is None:
        raise ApiError(
            HTTPStatus.NOT_FOUND, "unknown_request", "that answer is not remembered, or not any more: send the image"
        )
    if index >= len(answered.images):
        raise ApiError(422, "invalid_parameter", f"index is {index}: the request had {len(answered.images)} images")
    return answered
