from __future__ import annotations

import pytest

from contract import repository
from contract.errors import UsageError
from service import settings


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.load().port == 8000
    monkeypatch.setenv("KERNELSCOPE_PORT", "9000")
    assert settings.load().port == 9000
    assert settings.load(port="9001").port == 9001
    assert settings.load(port=None).port == 9000


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELSCOPE_HOST", "")
    assert settings.load().host == "127.0.0.1"


def test_the_shipped_models_are_the_default() -> None:
    assert settings.load().models == repository.shipped()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "70000"),
        ("port", "http"),
        ("max_batch_size", "0"),
        ("log_format", "xml"),
        ("versions", "v1"),
        ("drain_timeout", "inf"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"KERNELSCOPE_{name.upper()}", value)
    with pytest.raises(UsageError, match=f"KERNELSCOPE_{name.upper()} .*{value}"):
        settings.load()


def test_processes_and_threads_follow_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    def shared(count: int, **flags: object) -> tuple[int, int]:
        monkeypatch.setattr(settings, "cores", lambda: count)
        chosen = settings.settled(settings.load(**flags))
        return chosen.workers, chosen.threads

    assert shared(1) == (1, 1)
    assert shared(2) == (2, 1)
    assert shared(32) == (8, 4)
    assert shared(4, workers="1") == (1, 4)
    assert shared(4, workers="3") == (3, 1)
    assert shared(4, workers="2", threads="1") == (2, 1)
    monkeypatch.delattr("signal.sigtimedwait")
    assert shared(4) == (1, 4)
    with pytest.raises(UsageError, match="--workers 2 needs Linux"):
        shared(4, workers="2")
