"""How the log looks: JSON lines for programs, text for a person at a terminal."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", None)
        said = record.getMessage()
        # what a client sent is shown with its control characters escaped: it must not move a terminal's cursor
        said = said if said.isprintable() else said.encode("unicode_escape").decode()
        tail = f"  {fields['milliseconds']:.1f} ms  {fields['request_id']}" if fields else ""
        trace = "\n" + self.formatException(record.exc_info) if record.exc_info else ""
        return f"{datetime.fromtimestamp(record.created):%H:%M:%S}  {said}{tail}{trace}"


def configure(log_format: str, stream: TextIO | None = None) -> None:
    """Send the service's and uvicorn's log to `stream` (standard output): JSON lines, or text for a person."""
    out = stream or sys.stdout
    as_json = log_format == "json" or (log_format == "auto" and not out.isatty())
    handler = logging.StreamHandler(out)
    handler.setFormatter(_JsonLines() if as_json else _Text())
    levels = {"kernelscope": logging.INFO} | dict.fromkeys(("uvicorn", "fastapi", "opentelemetry"), logging.WARNING)
    for name, level in levels.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
