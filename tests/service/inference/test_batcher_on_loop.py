"""A model whose run is short: it runs on the event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any

import numpy as np
import pytest

from contract.preprocessing import Pixels
from service.inference.batcher import Batcher, Overloaded
from service.inference.submission import OutOfTime, Probabilities
from service.inference.watchdog import LONGEST_SECONDS

Answer = Probabilities | Exception


class Model:
    """Answers each image with its own first value; hangs on 254 on the event loop until it is ended, fails on 255."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: list[str] = []
        self.ended = threading.Event()

    def __call__(self, images: Pixels) -> Probabilities:
        values = images[:, 0, 0, 0].tolist()
        self.batches.append(values)
        self.threads.append(threading.current_thread().name)
        if 254 in values and threading.current_thread() is threading.main_thread():
            assert self.ended.wait(10)
            raise RuntimeError("ended")
        if 255 in values:
            raise ValueError("bad image")
        return images[:, 0, 0, :1].astype(np.float32)

    def terminate(self) -> None:
        self.ended.set()


class Nobody:
    def waiting(self, images: int) -> None:
        """Told, and does nothing."""

    def ran(self, images: int, waited: float, took: float) -> None:
        """Likewise."""


def images(*values: int) -> Pixels:
    return np.stack([np.full((2, 2, 3), value, np.uint8) for value in values])


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


def make(model: Model, **options: Any) -> Batcher:
    settings: dict[str, Any] = {"max_batch_size": 8, "max_queue": 16, "on_loop": 4, **options}
    return Batcher(model, Nobody(), terminate=model.terminate, **settings)


def soon(seconds: float = 60.0) -> float:
    return time.perf_counter() + seconds


def test_what_comes_in_one_turn_is_one_run_on_the_event_loop() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model)
        answers: list[Answer] = []
        for value in (1, 2):
            batcher.submit_to(images(value), soon(), answers.append)
        awaited = batcher.submit(images(3))
        assert model.batches == []
        assert (await awaited).tolist() == [[3]]
        assert [np.asarray(answer).tolist() for answer in answers] == [[[1]], [[2]]]
        assert model.batches == [[1, 2, 3]]
        assert model.threads == [threading.main_thread().name]
        assert batcher.depth == 0
        batcher.close()

    run(work())


def test_other_work_has_its_turn_between_two_runs() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model)
        done = [batcher.submit(images(*range(start, start + 3))) for start in (0, 3, 6)]
        runs_seen = []
        for _ in range(6):
            await asyncio.sleep(0)
            runs_seen.append(len(model.batches))
        assert [answer[:, 0].tolist() for answer in await asyncio.gather(*done)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
        assert model.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
        assert {1, 2, 3} <= set(runs_seen)
        batcher.close()

    run(work())


def test_who_is_out_of_time_or_has_left_is_not_run() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model)
        late: list[Answer] = []
        left: list[Answer] = []
        batcher.submit_to(images(1), soon(1e-6), late.append)
        batcher.cancel(batcher.submit_to(images(2), soon(), left.append))
        assert (await batcher.submit(images(3))).tolist() == [[3]]
        assert isinstance(late[0], OutOfTime)
        assert left == []
        assert model.batches == [[3]]
        await batcher.drain()
        batcher.close()

    run(work())


def test_one_that_fails_does_not_fail_those_it_was_joined_with() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model)
        answers: dict[int, Answer] = {}
        for value in (1, 255, 2):
            batcher.submit_to(images(value), soon(), partial(answers.__setitem__, value))
        await batcher.drain()
        assert [np.asarray(answers[value]).tolist() for value in (1, 2)] == [[[1]], [[2]]]
        assert isinstance(answers[255], ValueError)
        batcher.close()

    run(work())


def test_a_full_queue_refuses() -> None:
    async def work() -> None:
        batcher = make(Model(), max_queue=2)
        some = [batcher.submit(images(value)) for value in (1, 2)]
        with pytest.raises(Overloaded):
            batcher.submit_to(images(3), soon(), lambda answer: None)
        await asyncio.gather(*some)
        batcher.close()

    run(work())


def test_a_run_that_takes_too_long_goes_on_elsewhere_and_short_ones_come_back() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model)
        start = time.perf_counter()
        assert (await batcher.submit(images(254))).tolist() == [[254]]
        assert time.perf_counter() - start < LONGEST_SECONDS + 1
        assert [thread == threading.main_thread().name for thread in model.threads] == [True, False]
        assert (await batcher.submit(images(7))).tolist() == [[7]]
        assert model.threads[-1] == threading.main_thread().name
        batcher.close()

    run(work())


def test_whoever_waits_for_a_run_that_never_ends_is_told_at_the_deadline() -> None:
    async def work() -> None:
        release = threading.Event()

        class Endless(Model):
            def __call__(self, images: Pixels) -> Probabilities:
                if threading.current_thread() is not threading.main_thread():
                    self.ended.clear()
                assert self.ended.wait(10)
                release.set()
                raise RuntimeError("ended")

        model = Endless()
        batcher = make(model)
        first: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        batcher.submit_to(images(1), soon(LONGEST_SECONDS + 0.5), first.set_result)
        assert isinstance(await first, OutOfTime)
        await asyncio.to_thread(release.wait, 10)  # nobody waits for it any more: it is ended
        await batcher.drain()
        assert not batcher.runs_on_loop
        batcher.close()

    run(work())
