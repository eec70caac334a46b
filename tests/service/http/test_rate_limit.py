from __future__ import annotations

import numpy as np
import pytest

from service.http.rate_limit import SLOTS, RateLimit


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def limit(clock: Clock, *names: str) -> RateLimit:
    made = RateLimit(np.zeros(SLOTS), clock)
    made.assign(names)
    return made


def test_a_burst_and_then_the_rate() -> None:
    clock = Clock()
    keys = limit(clock, "a", "b")
    assert [keys.take("a", 10, 3) == 0 for _ in range(4)] == [True, True, True, False]
    assert keys.take("a", 10, 3) == pytest.approx(0.1)
    assert keys.take("b", 10, 3) == 0  # each has its own
    answered = 0
    for _ in range(1000):  # 20 a second for 50 seconds
        clock.now += 0.05
        answered += keys.take("a", 10, 3) == 0
    assert answered == pytest.approx(500, abs=2)


def test_what_waits_long_saves_no_more_than_a_burst() -> None:
    clock = Clock()
    keys = limit(clock, "a")
    for _ in range(2):
        clock.now += 1e6
        assert [keys.take("a", 5, 5) == 0 for _ in range(7)] == [True] * 5 + [False] * 2


def test_processes_share_a_limit_and_places_do_not_depend_on_order() -> None:
    clock, times = Clock(), np.zeros(SLOTS)
    names = [f"key-{number}" for number in range(1000)]
    one, other = RateLimit(times, clock), RateLimit(times, clock)
    one.assign(names)
    other.assign(reversed(names))
    for name in names:
        assert [one.take(name, 1, 2) == 0, other.take(name, 1, 2) == 0, one.take(name, 1, 2) == 0] == [
            True,
            True,
            False,
        ]
