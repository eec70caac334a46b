from __future__ import annotations

import pytest

from contract import repository
from contract.errors import UsageError
from service import environment, settings


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
    monkeypatch.setattr(settings, "may_fork", lambda: False)
    assert shared(4) == (1, 4)
    with pytest.raises(UsageError, match="--workers 2 needs Linux"):
        shared(4, workers="2")


def test_the_address_that_kubernetes_puts_there_is_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELSCOPE_PORT", "tcp://10.96.0.1:80")
    assert settings.load().port == 8000
    assert settings.load(port="9001").port == 9001
    with pytest.raises(UsageError, match="KERNELSCOPE_PORT or --port"):
        settings.load(port="tcp://10.96.0.1:80")


OURS = dict.fromkeys(("KERNELSCOPE_CACHE", "KERNELSCOPE_NAME", "KERNELSCOPE_DATA", "KERNELSCOPE_CHROMIUM"), "x")
LINKS = {
    "KERNELSCOPE_SERVICE_HOST": "10.96.0.1",
    "KERNELSCOPE_SERVICE_PORT": "80",
    "KERNELSCOPE_SERVICE_PORT_HTTP": "80",
    "KERNELSCOPE_PORT_80_TCP": "tcp://10.96.0.1:80",
    "KERNELSCOPE_PORT_80_TCP_ADDR": "10.96.0.1",
    "KERNELSCOPE_PORT_80_TCP_PROTO": "tcp",
    "KERNELSCOPE_GPU_SERVICE_HOST": "10.96.0.2",
    "KERNELSCOPE_GPU_PORT": "tcp://10.96.0.2:80",
    "KERNELSCOPE_GPU_PORT_80_UDP_PORT": "80",
}


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        (OURS | LINKS | {"KERNELSCOPE_MAX_BODY": "5000", "kernelscope_watch": "1", "HOME": "/"}, []),
        ({"KERNELSCOPE_MAXBODY": "1"}, ["KERNELSCOPE_MAX_BODY?"]),
        ({"KERNELSCOPE_WORKER": "1"}, ["KERNELSCOPE_WORKERS?"]),
        ({"KERNELSCOPE_ZZZ": "1"}, ["there is no setting KERNELSCOPE_ZZZ"]),
        ({"KERNELSCOPE_PORT": "tcp://10.96.0.1:80"}, ["it is ignored"]),
        ({"KERNELSCOPE_PORT": "9000"}, []),
    ],
)
def test_variables_that_are_no_settings_are_named(variables: dict[str, str], says: list[str]) -> None:
    found = environment.warnings(variables, settings.Settings.model_fields)
    assert len(found) == len(says), found
    assert all(words in text for words, text in zip(says, found, strict=True))


@pytest.mark.parametrize("name", ["api_keys", "admin_key"])
@pytest.mark.parametrize("key", ["a b", " ", "a\tb", "schlüssel", "a,,b", ",", "a\x7f"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(name: str, key: str) -> None:
    with pytest.raises(UsageError, match=f"KERNELSCOPE_{name.upper()}") as caught:
        settings.load(**{name: key})
    assert "\n" not in str(caught.value)
    assert repr(key) not in str(caught.value)


def test_an_admin_key_is_one_key() -> None:
    assert settings.load(api_keys="one, two").api_keys == "one, two"
    with pytest.raises(UsageError, match="commas"):
        settings.load(admin_key="one,two")


@pytest.mark.parametrize(("prefix", "good"), [("", True), ("/a", True), ("/a/b-c", True), ("a", False), ("/", False)])
def test_a_prefix_begins_and_does_not_end_with_a_slash(prefix: str, good: bool) -> None:
    if good:
        assert settings.load(prefix=prefix).prefix == prefix
    else:
        with pytest.raises(UsageError, match="--prefix"):
            settings.load(prefix=prefix)


def test_load_balancers_keep_connections_for_less_time() -> None:
    assert settings.load().keep_alive == 75
