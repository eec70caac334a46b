"""The queue before the process that explains, and its life."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from contract.network.errors import UnknownLayer
from service.explanation.explainer import QUEUE, Busy, Explainer, ExplanationFailed
from service.explanation.tasks import Options, Task
from tests.support.models import colour_bundle, slow_bundle

SLOW = Options(method="occlusion")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colour_bundle(tmp_path_factory.mktemp("models")).folder


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return slow_bundle(tmp_path_factory.mktemp("models"), seconds=10).folder


@asynccontextmanager
async def running(megabytes: int = 1024, idle: float = 60) -> AsyncIterator[Explainer]:
    explainer = Explainer(megabytes, idle)
    try:
        yield explainer
    finally:
        explainer.close()


def layers(folder: Path) -> Task:
    return Task("layers", folder, "colours", 1)


def children() -> set[int]:
    """This process' own."""
    found = set()
    for path in Path("/proc/self/task").glob("*/children"):
        found |= {int(word) for word in path.read_text().split()}
    return found


def test_it_starts_with_the_first_task_and_ends_when_idle(folder: Path) -> None:
    async def scenario() -> None:
        before = children()
        async with running(idle=0.5) as explainer:
            assert children() == before
            answer = await explainer.answer(layers(folder))
            assert answer.body.startswith(b'{"model": "colours"')
            assert len(children() - before) == 1
            until = time.monotonic() + 20
            while children() - before:
                assert time.monotonic() < until
                await asyncio.sleep(0.05)
            assert (await explainer.answer(layers(folder))).body == answer.body

    asyncio.run(scenario())


def test_an_error_crosses_the_border_between_processes(folder: Path) -> None:
    async def scenario() -> None:
        async with running() as explainer:
            with pytest.raises(UnknownLayer, match="choose from"):
                await explainer.answer(Task("kernels", folder, "colours", 1, options=Options(layer="nowhere")))

    asyncio.run(scenario())


def test_only_so_many_wait(folder: Path) -> None:
    async def scenario() -> None:
        async with running() as explainer:
            asked = [asyncio.ensure_future(explainer.answer(layers(folder))) for _ in range(QUEUE + 5)]
            found = await asyncio.gather(*asked, return_exceptions=True)
            busy = [one for one in found if isinstance(one, Busy)]
            assert len(busy) == 4  # one is under way, and `QUEUE` wait
            assert sum(not isinstance(one, Exception) for one in found) == QUEUE + 1

    asyncio.run(scenario())


def test_who_leaves_makes_room_and_takes_no_ones_answer(folder: Path) -> None:
    async def scenario() -> None:
        others = children()
        async with running() as explainer:
            await explainer.answer(layers(folder))
            (process,) = children() - others
            for _ in range(5):
                asked = asyncio.ensure_future(explainer.answer(layers(folder)))
                await asyncio.sleep(0)  # it is under way
                await asyncio.sleep(0)
                asked.cancel()
            with pytest.raises(UnknownLayer):
                await explainer.answer(Task("kernels", folder, "colours", 1, options=Options(layer="nowhere")))
            assert children() - others == {process}  # short tasks are let end

    asyncio.run(scenario())


def test_a_long_task_that_nobody_waits_for_is_ended_with_its_process(slow: Path, folder: Path) -> None:
    import numpy as np

    async def scenario() -> None:
        others = children()
        async with running() as explainer:
            await explainer.answer(layers(folder))
            (before,) = children() - others
            task = Task("explain", slow, "slow", 1, image=np.full((1, 8, 8, 3), 255, np.uint8), options=SLOW)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(explainer.answer(task), 1)
            await asyncio.wait_for(explainer.answer(layers(folder)), 30)
            assert before not in children()

    asyncio.run(scenario())


def test_too_little_memory_is_said(folder: Path) -> None:
    async def scenario() -> None:
        async with running(megabytes=16) as explainer:
            with pytest.raises(ExplanationFailed, match="KERNELSCOPE_EXPLAIN_MEMORY"):
                await explainer.answer(layers(folder))

    asyncio.run(scenario())
