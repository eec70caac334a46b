from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest

from contract.images import Pixels
from service.batcher import Batcher, Overloaded, Probabilities


class Model:
    """Answers each picture with its own first value; can be held, and can be told to fail."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.go = threading.Event()
        self.entered = threading.Event()
        self.go.set()

    def __call__(self, pictures: Pixels) -> Probabilities:
        self.batches.append(len(pictures))
        self.entered.set()
        assert self.go.wait(10)
        if (pictures[:, 0, 0, 0] == 255).any():
            raise ValueError("bad picture")
        return pictures[:, 0, 0, :1].astype(np.float32)

    def hold(self) -> None:
        self.go.clear()
        self.entered.clear()


def pictures(*values: int) -> Pixels:
    return np.stack([np.full((2, 2, 3), value, np.uint8) for value in values])


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


def make(model: Model, **options: int) -> Batcher:
    return Batcher(model, lambda *_: None, **{"max_batch_size": 4, "max_queue": 8, **options})


def test_an_idle_model_starts_at_once() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model)
        assert (await batcher.submit(pictures(7))).tolist() == [[7]]
        assert model.batches == [1]
        batcher.close()

    run(work())


def test_what_waits_is_joined_and_each_gets_its_own() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model)
        model.hold()
        first = asyncio.create_task(batcher.submit(pictures(1)))
        await asyncio.to_thread(model.entered.wait)
        others = [asyncio.create_task(batcher.submit(pictures(value))) for value in (2, 3, 4, 5, 6)]
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
        answer = await batcher.submit(pictures(*range(10)))
        assert answer[:, 0].tolist() == list(range(10))
        assert model.batches == [4, 4, 2]
        batcher.close()

    run(work())


def test_a_full_queue_refuses_at_once() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model, max_queue=2)
        model.hold()
        first = asyncio.create_task(batcher.submit(pictures(1)))
        await asyncio.to_thread(model.entered.wait)
        waiting = asyncio.create_task(batcher.submit(pictures(2, 3)))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await batcher.submit(pictures(4))
        model.go.set()
        assert (await first).tolist() == [[1]]
        assert (await waiting).tolist() == [[2], [3]]
        batcher.close()

    run(work())


def test_the_cancelled_are_not_run() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model)
        model.hold()
        first = asyncio.create_task(batcher.submit(pictures(1)))
        await asyncio.to_thread(model.entered.wait)
        gone = asyncio.create_task(batcher.submit(pictures(2)))
        stays = asyncio.create_task(batcher.submit(pictures(3)))
        await asyncio.sleep(0)
        gone.cancel()
        model.go.set()
        assert (await stays).tolist() == [[3]]
        assert (await first).tolist() == [[1]]
        assert model.batches == [1, 1]
        with pytest.raises(asyncio.CancelledError):
            await gone
        batcher.close()

    run(work())


def test_a_failing_run_reaches_its_callers_and_the_next_batch_runs() -> None:
    async def work() -> None:
        model = Model()
        batcher = make(model)
        with pytest.raises(ValueError, match="bad picture"):
            await batcher.submit(pictures(255))
        assert (await batcher.submit(pictures(8))).tolist() == [[8]]
        batcher.close()

    run(work())
