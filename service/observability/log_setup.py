"""How the log looks: JSON lines for programs, text for a person at a terminal."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TextIO

from service.observability import request_line
from service.observability.log_writer import DirectWriter, QueuedWriter, Writer
from service.observability.text import escaped

log = logging.getLogger("kernelscope")

_LEVELS: Final = {"kernelscope": logging.INFO} | dict.fromkeys(
    ("uvicorn", "fastapi", "opentelemetry", "asyncio", "concurrent", "py.warnings"), logging.WARNING
)


class JsonLines(logging.Formatter):
    """A line of JSON for each message and each request."""

    def format(self, record: logging.LogRecord) -> str:
        """All lines of a record."""
        return "\n".join(self.lines(record))

    def lines(self, record: logging.LogRecord) -> list[str]:
        """One for each request that a record stands for, else its message."""
        requests = request_line.lines_of(record)
        return [self._message(record)] if requests is None else list(map(request_line.as_json, requests))

    def _message(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return escaped(json.dumps(line, ensure_ascii=False))


class TextLines(logging.Formatter):
    """Lines for a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """All lines of a record."""
        return "\n".join(self.lines(record))

    def lines(self, record: logging.LogRecord) -> list[str]:
        """One for each request that a record stands for, else its message."""
        requests = request_line.lines_of(record)
        return [self._message(record)] if requests is None else list(map(request_line.as_text, requests))

    def _message(self, record: logging.LogRecord) -> str:
        said = escaped(record.getMessage())
        trace = (
            "\n".join(map(escaped, ["", *self.formatException(record.exc_info).splitlines()]))
            if record.exc_info
            else ""
        )
        return f"{datetime.fromtimestamp(record.created):%H:%M:%S}  {said}{trace}"


class _Handler(logging.Handler):
    """Writes what has been formatted, and flushes it within a bounded time as logging ends."""

    def __init__(self, writer: Writer, formatter: JsonLines | TextLines) -> None:
        super().__init__()
        self._writer, self._lines = writer, formatter.lines

    def emit(self, record: logging.LogRecord) -> None:
        for line in self._lines(record):
            self._writer.write(_line(line))

    def close(self) -> None:
        self._writer.close()
        super().close()


def _line(text: str) -> bytes:
    return f"{text}\n".encode(errors="backslashreplace")


def is_json(log_format: str, stream: TextIO | None = None) -> bool:
    """Whether the log to `stream` (standard output) is JSON lines: where it is asked for, and where no person reads."""
    return log_format == "json" or (log_format == "auto" and not (stream or sys.stdout).isatty())


def configure(
    log_format: str, stream: TextIO | None = None, *, descriptor: int | None = None, threaded: bool = True
) -> None:
    """Send the service's and uvicorn's log to standard output: JSON lines, or text for a person.

    Args:
        log_format: json, text, or auto.
        stream: instead of standard output.
        descriptor: where standard output has been, if it is somewhere else by now.
        threaded: whether a thread may do the writing; a process that forks has none.
    """
    as_json = is_json(log_format, stream)
    formatter = JsonLines() if as_json else TextLines()

    def dropped(count: int) -> bytes:
        said = f"{count} lines of the log were dropped: nobody read them in time"
        return _line(formatter.format(logging.makeLogRecord({"levelname": "WARNING", "msg": said})))

    handler: logging.Handler
    if stream:
        handler = logging.StreamHandler(stream)
    else:
        target = sys.stdout.fileno() if descriptor is None else descriptor
        handler = _Handler(QueuedWriter(target, dropped) if threaded else DirectWriter(target, dropped), formatter)
    handler.setFormatter(formatter)
    for name, level in _LEVELS.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    if as_json and not stream:
        sys.excepthook = _log_exception


def close() -> None:
    """Write what still waits; for a process that ends without Python's own end."""
    logging.shutdown()


def _log_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.critical("%s", error, exc_info=(kind, error, trace))
