"""How the log looks: JSON lines for programs, text for a person at a terminal."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TextIO

from service.observability.log_writer import DirectWriter, QueuedWriter, Writer

log = logging.getLogger("kernelscope")

_LEVELS: Final = {"kernelscope": logging.INFO} | dict.fromkeys(
    ("uvicorn", "fastapi", "opentelemetry", "asyncio", "concurrent", "py.warnings"), logging.WARNING
)
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""What moves a terminal's cursor, ends a line for some readers, turns the direction of text, or is no text."""


def escaped(text: str) -> str:
    r"""The text, with escapes, as JSON has them, for characters that are not to be taken for what they are.

    Example:
        >>> escaped("a\x1b[2J\u2028b")
        'a\\u001b[2J\\u2028b'
    """
    return text if text.isascii() and text.isprintable() else _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


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
        return escaped(json.dumps(line, ensure_ascii=False))


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", None)
        said = escaped(record.getMessage())
        tail = f"  {fields['milliseconds']:.1f} ms  {fields['request_id']}" if fields and "request_id" in fields else ""
        trace = (
            "\n".join(map(escaped, ["", *self.formatException(record.exc_info).splitlines()]))
            if record.exc_info
            else ""
        )
        return f"{datetime.fromtimestamp(record.created):%H:%M:%S}  {said}{tail}{trace}"


class _Handler(logging.Handler):
    """Writes what has been formatted, and flushes it within a bounded time as logging ends."""

    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        self._writer.write(_line(self.format(record)))

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
    formatter = _JsonLines() if as_json else _Text()

    def dropped(count: int) -> bytes:
        said = f"{count} lines of the log were dropped: nobody read them in time"
        return _line(formatter.format(logging.makeLogRecord({"levelname": "WARNING", "msg": said})))

    handler: logging.Handler
    if stream:
        handler = logging.StreamHandler(stream)
    else:
        target = sys.stdout.fileno() if descriptor is None else descriptor
        handler = _Handler(QueuedWriter(target, dropped) if threaded else DirectWriter(target, dropped))
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
