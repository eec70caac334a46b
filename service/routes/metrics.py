"""The metrics of all processes, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.state import app_state

router = APIRouter()


@router.head("/metrics", include_in_schema=False)
@router.get(
    "/metrics",
    tags=["health"],
    response_class=Response,
    responses={200: {"content": {"text/plain": {}, "application/openmetrics-text": {}}}},
)
async def metrics(request: Request) -> Response:
    """Prometheus text, or OpenMetrics where `Accept` asks for it."""
    page, content_type = await app_state(request).group.metrics_page(request.headers.get("accept", ""))
    return Response(page, headers={"content-type": content_type})
