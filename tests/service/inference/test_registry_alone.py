"""One process' registry, without a server."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path

import pytest

from contract import repository
from contract.repository import Listing
from service.inference import models_folder, registry
from service.inference.models_folder import Unavailable
from service.inference.refusal import Refusal
from service.inference.registry import Registry
from service.observability.metrics import Metrics
from service.settings import Settings, settled
from tests.support.models import ROTATED, colour_bundle, publish


@pytest.fixture
def root(tmp_path: Path) -> Path:
    colour_bundle(tmp_path / "models")
    publish(tmp_path / "models", 2, labels=ROTATED)
    return tmp_path / "models"


def make(root: Path, **fatal: Refusal) -> Registry:
    settings = settled(Settings.model_validate({"models": root, "max_batch_size": 2}))
    return Registry(settings, Metrics(), fatal={("colours", int(name[1:])): why for name, why in fatal.items()})


def test_a_disk_that_does_not_answer_holds_up_no_answer(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system may hang for ever; what asks for the folder is told so, and predictions go on."""
    released = threading.Event()

    def hang(root: Path) -> Listing:
        released.wait(30)
        return Listing({}, {})

    async def work() -> None:
        alone = make(root)
        await alone.start()
        monkeypatch.setattr(repository, "scan", hang)
        monkeypatch.setattr(registry, "SCAN_SECONDS", 0.2)
        monkeypatch.setattr(models_folder, "REFRESH_SECONDS", 0.2)
        with pytest.raises(Unavailable, match="did not answer within"):
            await alone.load("colours")
        with pytest.raises(Unavailable, match="did not answer within"):
            await alone.reconcile()
        await alone.refresh()
        assert [status.version for status in alone.versions("colours")] == [1, 2]
        assert alone.get("colours").version == 2
        released.set()
        alone.close()

    asyncio.run(asyncio.wait_for(work(), 30))


def test_what_ended_another_process_is_not_adopted(root: Path) -> None:
    async def work() -> None:
        leader, follower = make(root), make(root, _2=Refusal("it ended a process"))
        await leader.start()
        assert await follower.adopt(leader.state()) == [("colours", 2)]
        leader.lose([("colours", 2)])
        await leader.reconcile()
        assert leader.get().version == 1
        assert await follower.adopt(leader.state()) == []
        assert follower.get().version == 1
        leader.close()
        follower.close()

    asyncio.run(asyncio.wait_for(work(), 60))


def test_a_version_that_is_gone_goes_on_where_there_is_no_other(root: Path) -> None:
    async def work() -> None:
        alone = make(root)
        await alone.start()
        shutil.rmtree(root / "colours")
        await alone.reconcile()
        assert alone.get("colours").version == 2
        alone.close()

    asyncio.run(asyncio.wait_for(work(), 60))
