"""Whether the service answers: probes for an orchestrator, a summary for people."""

from __future__ import annotations

from fastapi import APIRouter, Request

from contract.version import VERSION
from service.http.json_reply import JsonReply
from service.schemas import Health, Probe, refused
from service.state import app_state

router = APIRouter()


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live", tags=["health"])
async def live() -> Probe:
    """200 as long as the process answers: restart it where this fails."""
    return Probe(status="live")


@router.head("/health/ready", include_in_schema=False)
@router.get("/health/ready", tags=["health"], response_model=Probe, responses=refused(Probe, 503))
async def ready(request: Request) -> JsonReply:
    """200 once every process answers for a model; 503 before, and from SIGTERM on: send nothing where this fails."""
    status, _ = await app_state(request).group.status()
    return JsonReply({"status": status}, 200 if status == "ready" else 503)


@router.head("/health", include_in_schema=False)
@router.get("/health", tags=["health"])
async def health(request: Request) -> Health:
    """A summary for people."""
    state = app_state(request)
    phase, queued = await state.group.status()
    models: dict[str, list[int]] = {}
    for loaded in state.registry.all():
        models.setdefault(loaded.name, []).append(loaded.version)
    return Health(
        status=phase,
        version=VERSION,
        uptime_seconds=round(state.lifecycle.uptime, 1),
        models=models,
        waiting_images=queued,
        processes=state.group.size,
    )
