"""Traces with OpenTelemetry: what a request's time went into, as children of the request's own span.

The request's span is FastAPI's, and so are the exporter and its settings: it reads the OTEL_* variables. Where they
name no endpoint, none of OpenTelemetry but its interface is loaded, which FastAPI imports anyhow.
"""

from __future__ import annotations

import os
import time

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace

_TRACER = trace.get_tracer("kernelscope")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def is_wanted() -> bool:
    """Whether there is an endpoint that traces go to."""
    return any(os.environ.get(name) for name in _ENDPOINTS)


def telemetry() -> TelemetryConfig:
    """What FastAPI is to do: traces where an endpoint is set; the metrics are Prometheus', and the log is ours."""
    return {
        "tracing": is_wanted(),
        "auto_configure": is_wanted(),
        "metrics": False,
        "logs": False,
        "operation_spans": False,
    }


def record(name: str, start: float, end: float, **attributes: int) -> None:
    """A span below the present one, from `start` to `end` by `time.perf_counter`; nothing where there is none."""
    if trace.get_current_span().is_recording():
        now = time.time_ns() - int(time.perf_counter() * 1e9)
        span = _TRACER.start_span(name, start_time=now + int(start * 1e9), attributes=attributes)
        span.end(now + int(end * 1e9))
