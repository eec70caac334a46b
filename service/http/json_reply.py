"""JSON replies that cannot fail to be written.

A string may hold half of a surrogate pair: names of files are any bytes, and JSON that a client sends may have one. A
number may be none. Neither is an error of the service's, and a reply that is to say so must not become a 500.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Final

from fastapi.responses import JSONResponse, Response
from pydantic import BeforeValidator


def printable(text: str) -> str:
    r"""The text, with escapes for what UTF-8 cannot hold.

    Example:
        >>> printable("\ud800")
        '\\ud800'
    """
    return text.encode(errors="backslashreplace").decode()


Text = Annotated[str, BeforeValidator(printable)]
"""A reply's field whose value may come from the names of files."""


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def as_json(value: Any) -> str:
    r"""JSON in which what JSON cannot hold is escaped, or null where it is no number.

    Example:
        >>> as_json({"a": [1.5, float("nan"), "\ud800"]})
        '{"a":[1.5,null,"\\\\ud800"]}'
    """
    try:
        text = _ENCODER.encode(value)
        text.encode()
    except ValueError:  # UnicodeEncodeError is one
        return _ENCODER.encode(_plain(value))
    return text


class JsonReply(JSONResponse):
    """A reply as JSON, as `as_json` writes it."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return as_json(content).encode()


class WrittenJson(Response):
    """A reply whose JSON has been written already."""

    media_type = "application/json"


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {printable(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
