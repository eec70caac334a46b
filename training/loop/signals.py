"""SIGINT and SIGTERM set an event; training stops after the current step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def set_by_signals(stop: threading.Event) -> Iterator[None]:
    """In this block the first SIGINT or SIGTERM sets `stop`; a second one raises `KeyboardInterrupt`.

    Python handles signals on its main thread only: on another thread this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def set_stop(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, set_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
