from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest

from contract.preprocessing import Pixels
from service.inference.batcher import Batcher, Overloaded
from service.inference.submission import Probabilities


class Model:
    """Answers each image with its own first value; can be held, and can be told to fail."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.go = threading.Event()
        self.entered = threading.Event()
        self.go.set()

    def __call__(self, images: Pixels) -> Probabilities:
        self.batches.append(len(images))
        self.entered.set()
        assert self.go.wait(10)
        if (images[:, 0, 0, 0] == 255).any():
            raise ValueError("bad image")
        return images[:, 0, 0, :1].astype(np.float32)

    def hold(self) -> None:
        self.go.clear()
        self.entered.clear()


def images(*values: int) -> Pixels:
    return np.stack([np.full((2, 2, 3), value, np.uint8) for value in values])


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


class Nobody:
    def waiting(self, images: int) -> None:
        """Told, and does nothing."""

    def ran(self, images: int, waited: float, took: float) -> None:
        """Likewise."""


def make(model: Model, **options: Any) -> Batcher:
    settings: dict[str, Any] = {"max_batch_size": 4, "max_queue": 8, **options}
    return Batcher(model, Nobody(), **settings)


def test_an_idle_model_starts_at_once() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model)
        assert (await batcher.submit(images(7))).tolist() == [[7]]
        assert model.batches == [1]
        batcher.close()

    run(work())


def test_what_waits_is_joined_and_each_gets_its_own() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model)
        model.hold()
        first = batcher.submit(images(1))
        await asyncio.to_thread(model.entered.wait)
        others = [batcher.submit(images(value)) for value in (2, 3, 4, 5, 6)]
        await asyncio.sleep(0)
        assert batcher.depth == 5
        model.go.set()
        answers = await asyncio.gather(first, *others)
        assert [answer.tolist() for answer in answers] == [[[value]] for value in range(1, 7)]
        assert model.batches == [1, 4, 1]
        assert batcher.depth == 0
        batcher.close()

    run(work())


def test_a_large_request_is_split_and_joined() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model)
        answer = await batcher.submit(images(*range(10)))
        assert answer[:, 0].tolist() == list(range(10))
        assert model.batches == [4, 4, 2]
        batcher.close()

    run(work())


def test_a_full_queue_refuses_at_once() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model, max_queue=2)
        model.hold()
        first = batcher.submit(images(1))
        await asyncio.to_thread(model.entered.wait)
        waiting = batcher.submit(images(2, 3))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await batcher.submit(images(4))
        model.go.set()
        assert (await first).tolist() == [[1]]
        assert (await waiting).tolist() == [[2], [3]]
        batcher.close()

    run(work())


def test_who_would_wait_in_vain_is_refused_at_once() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model)
        model.hold()
        first = batcher.submit(images(1))
        await asyncio.to_thread(model.entered.wait)
        await asyncio.sleep(0.05)  # the pace that is measured is no better than this
        model.go.set()
        await first
        model.hold()
        running = batcher.submit(images(2))
        await asyncio.to_thread(model.entered.wait)
        waiting = batcher.submit(images(3), time_left=0.001)  # nothing waits yet: it may be the next
        assert not batcher.admits(1, time_left=0.01)
        assert batcher.admits(1, time_left=60)
        assert not batcher.admits(1, arriving=7, time_left=60)
        with pytest.raises(Overloaded):
            batcher.submit(images(4), time_left=0.01)
        patient = batcher.submit(images(4), time_left=60)
        model.go.set()
        assert [one.tolist() for one in await asyncio.gather(running, waiting, patient)] == [[[2]], [[3]], [[4]]]
        batcher.close()

    run(work())


def test_the_cancelled_are_not_run() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model)
        model.hold()
        first = batcher.submit(images(1))
        await asyncio.to_thread(model.entered.wait)
        gone = batcher.submit(images(2))
        stays = batcher.submit(images(3))
        await asyncio.sleep(0)
        gone.answer.cancel()
        model.go.set()
        assert (await stays).tolist() == [[3]]
        assert (await first).tolist() == [[1]]
        assert model.batches == [1, 1]
        assert batcher.depth == 0
        with pytest.raises(asyncio.CancelledError):
            await gone
        batcher.close()

    run(work())


def test_a_failing_run_reaches_its_callers_and_the_next_batch_runs() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model)
        with pytest.raises(ValueError, match="bad image"):
            await batcher.submit(images(255))
        assert (await batcher.submit(images(8))).tolist() == [[8]]
        batcher.close()

    run(work())


def test_one_that_fails_does_not_fail_those_it_was_joined_with() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model)
        model.hold()
        first = batcher.submit(images(1))
        await asyncio.to_thread(model.entered.wait)
        some = [batcher.submit(images(value)) for value in (2, 255, 3)]
        await asyncio.sleep(0)
        model.go.set()
        await first
        good, bad, other = await asyncio.gather(*some, return_exceptions=True)
        assert isinstance(good, np.ndarray)
        assert isinstance(other, np.ndarray)
        assert (good.tolist(), other.tolist()) == ([[2]], [[3]])
        assert isinstance(bad, ValueError)
        assert model.batches == [1, 3, 1, 1, 1]
        batcher.close()

    run(work())


def test_a_large_request_that_fails_halfway_leaves_nothing_behind() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model)
        with pytest.raises(ValueError, match="bad image"):
            await batcher.submit(images(255, *range(9)))
        await batcher.drain()
        assert batcher.depth == 0
        assert (await batcher.submit(images(8))).tolist() == [[8]]
        batcher.close()

    run(work())


def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model, max_queue=2)
        assert len(await batcher.submit(images(*range(9)))) == 9
        batcher.close()

    run(work())


def test_large_requests_fill_batches_together() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model, max_queue=100)
        model.hold()
        first = batcher.submit(images(0))
        await asyncio.to_thread(model.entered.wait)
        some = [batcher.submit(images(*range(i, i + 3))) for i in (10, 20, 30)]
        await asyncio.sleep(0)
        model.go.set()
        await first
        assert [(await one)[:, 0].tolist() for one in some] == [[i, i + 1, i + 2] for i in (10, 20, 30)]
        assert model.batches == [1, 4, 4, 1]
        batcher.close()

    run(work())


def test_a_queue_delay_lets_a_batch_fill_and_no_longer() -> None:
    async def work() -> None:
        model = Model()
        batcher = Batcher(model, Nobody(), max_batch_size=3, max_queue=9, max_queue_delay=60)
        full = [batcher.submit(images(value)) for value in (1, 2, 3)]
        assert [(await one).tolist() for one in full] == [[[1]], [[2]], [[3]]]
        assert model.batches == [3]
        batcher.close()
        batcher = Batcher(model, Nobody(), max_batch_size=3, max_queue=9, max_queue_delay=0.01)
        assert (await batcher.submit(images(4))).tolist() == [[4]]
        batcher.close()

    run(work())


def test_draining_waits_for_what_was_accepted() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model)
        model.hold()
        some = [batcher.submit(images(value)) for value in (1, 2)]
        await asyncio.to_thread(model.entered.wait)
        drained = asyncio.create_task(batcher.drain())
        await asyncio.sleep(0)
        assert not drained.done()
        model.go.set()
        await drained
        assert [(await one).tolist() for one in some] == [[[1]], [[2]]]
        batcher.close()

    run(work())
