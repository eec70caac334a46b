"""The file of named keys is read strictly, and is taken up when it changes."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from contract.errors import UsageError
from service.http.auth import ApiKeys
from service.http.key_file import MOST_KEYS, NamedKey, digest_of, parse, read
from service.settings import load
from tests.support.group import reach
from tests.support.images import image
from tests.support.server import Server, command, figures
from tests.support.waiting import eventually

FILE = b"""
[mobile]
keys = ["new", "old"]
requests_per_second = 50
burst = 100

[batch-jobs]
keys = ["sha256:%s"]
""" % hashlib.sha256(b"hashed").hexdigest().encode()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_named_keys() -> None:
    keys = parse(FILE)
    mobile = NamedKey("mobile", 50.0, 100.0)
    assert keys == {
        digest_of(b"new"): mobile,
        digest_of(b"old"): mobile,
        digest_of(b"hashed"): NamedKey("batch-jobs"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\xff", "not UTF-8"),
        (b"[mobile", "not TOML"),
        (b"mobile = 1", "mobile is no table"),
        (b'["a b"]\nkeys = ["k"]', "'a b' is not taken"),
        (b"[mobile]", "mobile has no keys"),
        (b"[mobile]\nkeys = []", "mobile has no keys"),
        (b'[mobile]\nkeys = "k"', "mobile has no keys"),
        (b'[mobile]\nkeys = [""]', "mobile: a key is empty"),
        (b'[mobile]\nkeys = ["a b"]', "printable ASCII"),
        (b'[mobile]\nkeys = ["sha256:12"]', "64 hexadecimal digits"),
        (b'[mobile]\nkeys = ["k"]\nrate = 1', "a field 'rate'"),
        (b'[mobile]\nkeys = ["k"]\nrequests_per_second = 0', "a number above 0"),
        (b'[mobile]\nkeys = ["k"]\nrequests_per_second = nan', "a number above 0"),
        (b'[mobile]\nkeys = ["k"]\nrequests_per_second = true', "a number above 0"),
        (b'[mobile]\nkeys = ["k"]\nburst = 3', "no requests_per_second"),
        (b'[mobile]\nkeys = ["k"]\nadmin = 1', "true or false"),
        (b'[a]\nkeys = ["k"]\n[b]\nkeys = ["k"]', "a and b have the same key"),
        (b"".join(b'[n%d]\nkeys = ["%d"]\n' % (n, n) for n in range(MOST_KEYS + 1)), "1000 are taken at most"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong(text: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_bytes(text)
    with pytest.raises(UsageError, match=message) as error:
        read(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    words = command("serve", "--port", "0", "--api-keys-file", str(tmp_path / "none.toml"))
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "none.toml" in line]
    assert "cannot be read: No such file" in line


def test_a_file_is_read_again_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_bytes(FILE)
    keys = ApiKeys(load(api_keys="plain", api_keys_file=str(path)))

    def who(key: bytes) -> str:
        found = keys.find([(b"x-api-key", key)])
        return found.name if found else ""

    assert [who(key) for key in (b"new", b"old", b"hashed", b"plain", b"")] == [
        "mobile",
        "mobile",
        "batch-jobs",
        "api_keys",
        "",
    ]
    assert keys.reread() is False
    path.write_bytes(FILE.replace(b', "old"', b""))
    assert keys.reread() is True
    assert [who(key) for key in (b"new", b"old", b"plain")] == ["mobile", "", "api_keys"]
    for wrong in (b"[mobile", None):
        if wrong is None:
            path.unlink()
        else:
            path.write_bytes(wrong)
        with pytest.raises(UsageError):
            keys.reread()
        assert who(b"new") == "mobile"
        assert keys.reread() is False  # it is complained of once
    path.write_bytes(FILE)
    assert keys.reread() is True
    assert who(b"old") == "mobile"


def test_a_link_that_is_turned_elsewhere_is_read_again(tmp_path: Path) -> None:
    """As Kubernetes replaces what it mounts of a Secret."""
    for name, key in (("first", "one"), ("second", "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys.toml").write_text(f'[app]\nkeys = ["{key}"]\n')
    data = tmp_path / "..data"
    data.symlink_to("first")
    path = tmp_path / "keys.toml"
    path.symlink_to("..data/keys.toml")
    keys = ApiKeys(load(api_keys_file=str(path)))
    assert keys.find([(b"x-api-key", b"one")])
    turned = tmp_path / "..data_tmp"
    turned.symlink_to("second")
    turned.replace(data)
    assert keys.reread()
    assert keys.find([(b"x-api-key", b"two")])
    assert not keys.find([(b"x-api-key", b"one")])


def test_keys_are_rotated_while_the_service_runs(serve: Callable[..., Server], colours: Path, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    operations = '[operations]\nkeys = ["boss"]\nadmin = true\n'
    path.write_text(f'[mobile]\nkeys = ["old"]\n{operations}')
    server = serve("--models", str(colours), "--api-keys-file", str(path), "--workers", "2")
    with reach(server) as clients:

        def statuses(key: str) -> set[int]:
            return {client.get("/models", headers=bearer(key)).status_code for client in clients.values()}

        assert (statuses("old"), statuses("new"), statuses("")) == ({200}, {401}, {401})
        for stage, old, new in (('"old", "new"', 200, 200), ('"new"', 401, 200)):
            replaced = tmp_path / "replaced"
            replaced.write_text(f"[mobile]\nkeys = [{stage}]\n{operations}")
            replaced.replace(path)
            eventually(lambda new=new: statuses("new") == {new})  # type: ignore[misc]
            eventually(lambda old=old: statuses("old") == {old})  # type: ignore[misc]
        path.write_text("[mobile")
        eventually(lambda: figures(server)["kernelscope_key_file_errors_total[]"] == 2)  # of each process
        assert statuses("new") == {200}
    load = "/v2/repository/models/colours/load"
    assert server.client.post(load, headers=bearer("new")).status_code == 401
    assert server.client.post(load, headers=bearer("boss")).status_code == 200
    assert server.end() == 0
    assert {line.get("key") for line in server.log() if line.get("path") == "/models"} == {"mobile", None}
    assert not any("boss" in line or '"new"' in line for line in server.lines)


def test_a_key_has_a_limit_in_all_processes_together(
    serve: Callable[..., Server], colours: Path, tmp_path: Path
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text('[slow]\nkeys = ["slow"]\nrequests_per_second = 0.01\nburst = 6\n[free]\nkeys = ["free"]\n')
    server = serve("--models", str(colours), "--api-keys-file", str(path), "--workers", "2")
    clients = [httpx.Client(base_url=server.url, headers=bearer("slow")) for _ in range(8)]  # spread over the processes
    replies = [client.post("/predict", content=image()) for client in clients for _ in range(2)]
    assert [reply.status_code for reply in replies].count(200) == 6
    refused = next(reply for reply in replies if reply.status_code == 429)
    assert refused.json()["error"]["code"] == "too_many_requests"
    assert 0 < int(refused.headers["retry-after"]) <= 100
    for _ in range(20):
        assert server.client.post("/predict", content=image(), headers=bearer("free")).status_code == 200
    assert server.client.get("/health/ready").status_code == 200  # takes no key, and has no limit
    batch = [("file", image())] * 3
    assert server.client.post("/predict/batch", files=batch, headers=bearer("free")).status_code == 200
    counted = figures(server)
    by_key = {
        (name, key): counted.get(f"kernelscope_key_{name}_total[('key', '{key}')]")
        for name in ("requests", "limited_requests", "images")
        for key in ("slow", "free")
    }
    assert by_key == {
        ("requests", "slow"): 16, ("limited_requests", "slow"): 10, ("images", "slow"): 6,
        ("requests", "free"): 21, ("limited_requests", "free"): None, ("images", "free"): 23,
    }  # fmt: skip
    for client in clients:
        client.close()
