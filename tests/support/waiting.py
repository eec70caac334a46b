"""Waiting for what another process does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

_Value = TypeVar("_Value")
_INTERVAL = 0.02


def eventually(look: Callable[[], _Value], *, seconds: float = 60) -> _Value:
    """Call `look` until what it returns is true, and return that.

    For what another process gives no event of; between two looks this thread sleeps, so that it takes no core from
    what it waits for.

    Raises:
        AssertionError: it was not true within `seconds`.
    """
    until = time.monotonic() + seconds
    while not (value := look()):
        assert time.monotonic() < until, f"still {value!r} after {seconds:g} s"
        threading.Event().wait(_INTERVAL)
    return value
