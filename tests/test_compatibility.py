"""Names that people's dashboards, configuration and programs rely on: they may become more, and none may go."""

from __future__ import annotations

import pytest

from service.http.error_codes import CODES
from service.observability.metrics import Metrics
from service.settings import Settings
from tests.support.images import image
from tests.support.server import Server

SETTINGS = {
    "admin_key", "api_keys", "cors_origins", "drain_delay", "drain_timeout", "host", "load_timeout", "log_format",
    "log_requests", "max_batch_size", "max_body", "max_images", "max_pixels", "max_queue", "max_queue_delay", "model",
    "models", "port", "providers", "threads", "timeout", "top_k", "versions", "watch", "workers",
}  # fmt: skip
METRICS = {
    "kernelscope_batch_size_images", "kernelscope_cancelled_requests", "kernelscope_decode_seconds",
    "kernelscope_inference_seconds", "kernelscope_queue_depth_images", "kernelscope_queue_seconds",
    "kernelscope_refused_images", "kernelscope_request_seconds", "kernelscope_requests",
    "kernelscope_requests_in_flight", "kernelscope_shed_requests",
}  # fmt: skip
ERRORS = {
    "client_gone", "deadline_exceeded", "empty", "headers_too_large", "internal_error", "invalid_base64",
    "invalid_body", "invalid_form", "invalid_json", "invalid_parameter", "invalid_request", "no_admin_key", "no_file",
    "overloaded", "several_images", "too_large", "too_many_images", "undecodable_image", "unknown_model",
    "unsupported_content_type", "unsupported_image", "wrong_key",
}  # fmt: skip
REPLIES = {
    "/predict": {"model", "version", "label", "index", "probability", "unsure", "top"},
    "/health": {"status", "version", "uptime_seconds", "models", "waiting_images", "processes"},
    "/models": {"models", "refused", "ignored"},
    "/models/colours": {"name", "version", "default", "labels", "height", "width", "accuracy", "card"},
}


def test_no_setting_goes() -> None:
    assert set(Settings.model_fields) >= SETTINGS


def test_no_metric_goes() -> None:
    assert {family.name for family in Metrics().figures()} >= METRICS


def test_no_error_code_goes() -> None:
    assert set(CODES) >= ERRORS


@pytest.mark.parametrize("path", REPLIES)
def test_no_field_of_a_reply_goes(server: Server, path: str) -> None:
    reply = server.client.post(path, content=image()) if path == "/predict" else server.client.get(path)
    assert set(reply.json()) >= REPLIES[path]
