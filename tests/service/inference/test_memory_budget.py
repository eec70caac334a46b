from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import numpy as np
import pytest

from service.inference import memory_budget
from service.inference.memory_budget import SHARES, Share, Shares
from service.observability.metrics import Metrics


def _shares(held: memory_budget.Held, number: int, size: int = 304) -> Shares:
    return memory_budget.shares(size, held, number, Metrics())


def _held(workers: int = 2) -> memory_budget.Held:
    return np.zeros((workers, len(SHARES)), np.int64)


def test_who_came_first_goes_first_and_large_waits_are_not_overtaken() -> None:
    order: list[int] = []

    async def use(share: Share, size: int) -> None:
        async with share.hold(size):
            order.append(size)
            await asyncio.sleep(0)

    async def run() -> None:
        share = _shares(_held(), 0)["large_decodes"]
        async with asyncio.TaskGroup() as tasks:
            for size in (share.size, share.size - 1, 1, 2):
                tasks.create_task(use(share, size))

    asyncio.run(run())
    assert order == [228, 227, 1, 2]


def test_processes_share_one_budget() -> None:
    held = _held()

    async def run() -> None:
        mine, theirs = (_shares(held, number)["large_decodes"] for number in range(2))
        async with mine.hold(200):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1), theirs.hold(100):
                    pass
            async with theirs.hold(20):
                assert held[:, 1].tolist() == [200, 20]
        async with theirs.hold(100):
            assert held[:, 1].tolist() == [0, 100]

    asyncio.run(run())
    assert not held.any()


def test_shares_do_not_wait_for_each_other() -> None:
    async def run() -> None:
        shares = {str(name): share for name, share in _shares(_held(), 0).items()}
        async with asyncio.timeout(1), AsyncExitStack() as stack:
            for name, size in (("large_decodes", 10**9), ("large_bodies", 10**9), ("small_decodes", 24)):
                await stack.enter_async_context(shares[name].hold(size))
            await stack.enter_async_context(shares["medium_bodies"].hold(4))

    asyncio.run(run())


def test_what_a_dead_process_held_is_free_once_another_takes_its_place() -> None:
    held = _held()
    held[1] = 100
    _shares(held, 1)
    assert not held.any()


def test_the_shares_are_no_more_than_the_budget_and_hold_twelve_megapixels() -> None:
    shares = _shares(_held(), 0, 304 * 2**20)
    assert sum(share.size for share in shares.values()) <= 304 * 2**20
    assert shares["large_decodes"].size > 12e6 * 16.5 + 6 * 2**20 + 3 * 10e6
    assert shares["large_bodies"].size >= 16 * 2**20
