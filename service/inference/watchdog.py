"""Ends a model's run on the event loop that takes too long; from a thread, for the loop itself stands still."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

LONGEST_SECONDS: Final = 0.5
"""How long a run on the event loop may take; what waits meanwhile, health included, waits as long."""
_LOOK_SECONDS: Final = 0.1


class RunEnded(Exception):
    """A run was ended as it took too long."""


@dataclass(slots=True)
class _Run:
    terminate: Callable[[], None]
    since: float
    has_ended: bool = False


class Watchdog:
    """Watches runs on one event loop, which come one after the other. Its thread starts with the first.

    Args:
        longest: seconds that a run may take.
    """

    def __init__(self, longest: float = LONGEST_SECONDS) -> None:
        self._longest = longest
        self._run: _Run | None = None
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(self, terminate: Callable[[], None]) -> Iterator[None]:
        """Watch the run in this block.

        Args:
            terminate: ends the run under way with an error.

        Raises:
            RunEnded: in place of that error.
        """
        if self._thread is None or not self._thread.is_alive():  # it does not come along when a process forks
            self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)
            self._thread.start()
        run = self._run = _Run(terminate, time.monotonic())
        try:
            yield
        except Exception:
            if run.has_ended:
                raise RunEnded from None
            raise
        finally:
            self._run = None

    def _look(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            run = self._run
            if run and not run.has_ended and time.monotonic() - run.since > self._longest:
                run.has_ended = True
                run.terminate()


WATCHDOG: Final = Watchdog()
"""This process', which has one event loop."""
