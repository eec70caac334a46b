"""What processes say of their runs."""

from __future__ import annotations

import numpy as np

from service.inference.idle_cores import IdleCores


def test_a_process_is_idle_a_moment_after_its_run() -> None:
    times, now = np.zeros(3), [1.0]
    first, second, _ = (IdleCores(times, number, lambda: now[0]) for number in range(3))
    assert first.are_idle()
    second.begin()
    assert not first.are_idle()
    assert second.are_idle(), "a process' own runs do not count"
    second.end()
    assert not first.are_idle()
    now[0] += 0.01
    assert first.are_idle()


def test_a_process_that_replaces_one_that_died_during_a_run_is_idle() -> None:
    times = np.zeros(2)
    first, second = IdleCores(times, 0), IdleCores(times, 1)
    second.begin()
    IdleCores(times, 1)
    assert first.are_idle()


def test_a_process_alone_has_no_others() -> None:
    alone = IdleCores(np.zeros(1), 0)
    alone.begin()
    assert alone.are_idle()
