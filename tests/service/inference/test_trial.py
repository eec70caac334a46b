"""A bundle is tried in a process of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from contract import memory
from contract.errors import BundleError
from service.inference.refusal import how_it_ended
from service.inference.trial import try_to_load
from service.settings import Settings, settled
from tests.support.models import colour_bundle, damaged_bundle, greedy_bundle, looping_bundle


def settings(**fields: Any) -> Settings:
    return settled(Settings.model_validate({"workers": 2, "max_batch_size": 2, **fields}))


def test_a_good_bundle_passes(tmp_path: Path) -> None:
    asyncio.run(try_to_load(colour_bundle(tmp_path), settings()))


def test_a_bad_bundle_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="answers"):
        asyncio.run(try_to_load(damaged_bundle(tmp_path), settings()))


def test_what_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="within 2 s"):
        asyncio.run(try_to_load(looping_bundle(tmp_path, above=-1), settings(load_timeout=2)))


def test_what_needs_more_memory_than_there_is_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    greedy = greedy_bundle(tmp_path, gigabytes=0.25)
    asyncio.run(try_to_load(greedy, settings()))
    monkeypatch.setattr(memory, "available", lambda: 300_000_000)
    with pytest.raises(BundleError, match=r"MB in each of 2 processes; 300 MB are free"):
        asyncio.run(try_to_load(greedy, settings()))


def test_how_a_loader_ended() -> None:
    assert "SIGKILL; there may be too little memory" in how_it_ended("x", -9)
    assert "SIGSEGV" in how_it_ended("x", -11)
    assert "with 3" in how_it_ended("x", 3)
