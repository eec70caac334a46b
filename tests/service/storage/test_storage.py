"""Models by way of an S3 server: pushed, pulled by a side process, served by a server that knows no store."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from contract import bundle, manifest, repository
from contract.errors import BundleError
from service.storage.errors import StoreError
from service.storage.pull import Puller
from service.storage.push import push
from service.storage.store import Store
from tests.support import object_store
from tests.support.images import image
from tests.support.models import ROTATED, colour_bundle
from tests.support.object_store import ObjectStore
from tests.support.server import ROOT, Server, command
from tests.support.waiting import eventually

RED = image("red")


@pytest.fixture(scope="module")
def s3() -> Iterator[ObjectStore]:
    with object_store.running() as store:
        yield store


@pytest.fixture
def address(s3: ObjectStore, request: pytest.FixtureRequest) -> str:
    """A bucket of its own for each test."""
    bucket = request.node.name.replace("_", "-").replace("[", "-").replace("]", "")[:60]
    s3.client().create_bucket(Bucket=bucket)
    return f"s3://{bucket}/team/models"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two versions of a model, which can be told apart: to the second, red is blue."""
    colour_bundle(tmp_path / "source", version=1)
    colour_bundle(tmp_path / "source", version=2, labels=ROTATED)
    return tmp_path / "source"


def run(store: ObjectStore, *words: object) -> subprocess.CompletedProcess[str]:
    with started(store, *words) as process:
        out, errors = process.communicate(timeout=200)
    return subprocess.CompletedProcess(list(map(str, words)), process.returncode, out, errors)


@contextmanager
def started(store: ObjectStore, *words: object) -> Iterator[subprocess.Popen[str]]:
    lenient = [word for word in command(*map(str, words)) if word not in {"-W", "error"}]
    with subprocess.Popen(
        lenient, cwd=ROOT, env={**os.environ, **store.environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def push_version(store: ObjectStore, source: Path, address: str, version: int) -> None:
    done = run(store, "push", "colours", address, "--models", source, "--version", version)
    assert (done.returncode, done.stderr) == (0, "")


def key(address: str, path: str) -> dict[str, Any]:
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": f"{prefix}/{path}"}


def label(server: Server) -> str:
    reply = server.client.post("/predict", content=RED, headers={"Content-Type": "image/png"})
    assert reply.status_code == 200, reply.text
    return str(reply.json()["label"])


def test_a_version_that_is_pushed_is_served_soon(
    s3: ObjectStore, address: str, source: Path, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    models = tmp_path / "models"
    push_version(s3, source, address, 1)
    with started(s3, "pull", address, "--models", models, "--watch", "0.2", "--keep", "1") as side:
        eventually((models / "colours" / "1" / bundle.MODEL).exists)
        server = serve("--models", str(models), "--watch", "0.1", AWS_ENDPOINT_URL="http://127.0.0.1:9")
        assert label(server) == "red"
        push_version(s3, source, address, 2)
        eventually(lambda: label(server) == "blue")
        eventually(lambda: not (models / "colours" / "1").exists())  # --keep 1
        side.send_signal(signal.SIGTERM)
        out, errors = side.communicate(timeout=30)
    assert side.returncode == 0
    assert all("there is no manifest.json" in line for line in errors.splitlines())  # while it is uploaded
    assert out.splitlines() == [
        "colours/1 is in place", "colours/2 is in place", "colours/1 is older than those that are kept: removed",
    ]  # fmt: skip
    assert label(server) == "blue"


def test_half_an_upload_is_not_seen(s3: ObjectStore, address: str, source: Path, tmp_path: Path) -> None:
    push_version(s3, source, address, 1)
    for name in (bundle.MODEL, bundle.CARD):
        s3.client().put_object(**key(address, f"colours/2/{name}"), Body=(source / "colours" / "2" / name).read_bytes())
    done = run(s3, "pull", address, "--models", tmp_path / "models")
    assert done.returncode == 1
    assert done.stdout == "colours/1 is in place\n"
    assert done.stderr == (
        "kernelscope pull: colours/2 is refused: there is no manifest.json in the store: `kernelscope push` writes it "
        "last\n"
    )
    assert repository.models(tmp_path / "models") == {"colours": [1]}
    push_version(s3, source, address, 2)  # goes on where the upload ended
    done = run(s3, "pull", address, "--models", tmp_path / "models")
    assert (done.returncode, done.stdout, done.stderr) == (0, "colours/2 is in place\n", "")


def test_a_corrupted_version_is_refused_and_the_one_before_serves(
    s3: ObjectStore, address: str, source: Path, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    models = tmp_path / "models"
    for version in (1, 2):
        push_version(s3, source, address, version)
    right = (source / "colours" / "2" / bundle.MODEL).read_bytes()
    flipped = right[:-1] + bytes([right[-1] ^ 1])
    s3.client().put_object(**key(address, f"colours/2/{bundle.MODEL}"), Body=flipped)
    done = run(s3, "pull", address, "--models", models)
    assert done.returncode == 1
    assert done.stderr.startswith("kernelscope pull: colours/2 is refused: model.onnx has the SHA-256 ")
    assert done.stderr.count("\n") == 1
    server = serve("--models", str(models), "--watch", "0.1")
    assert label(server) == "red"
    (said,) = server.client.get("/models").json()["ignored"]
    assert said["path"] == "colours/2"
    assert "SHA-256" in said["reason"]
    s3.client().put_object(**key(address, f"colours/2/{bundle.MODEL}"), Body=right)
    assert run(s3, "pull", address, "--models", models).returncode == 0
    eventually(lambda: label(server) == "blue")
    assert server.client.get("/models").json()["ignored"] == []


@pytest.mark.parametrize("change", ["longer", "shorter", "absent", "empty"])
def test_files_of_another_size(
    s3: ObjectStore, address: str, source: Path, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    store = Store(address)
    assert push(repository.find(source, "colours", 1), store)
    where = key(address, f"colours/1/{bundle.CARD}")
    card = (source / "colours" / "1" / bundle.CARD).read_bytes()
    if change == "absent":
        s3.client().delete_object(**where)
    else:
        s3.client().put_object(**where, Body={"longer": card + b" ", "shorter": card[:-1], "empty": b""}[change])
    changes = Puller(store, tmp_path / "models", 1).round()
    said = "card.json is not in the store" if change == "absent" else "card.json has "
    assert changes.refused["colours/1"].startswith(said)
    assert repository.models(tmp_path / "models") == {}
    assert [entry.name for entry in (tmp_path / "models").iterdir() if entry.is_dir()] == []


def test_a_store_that_goes_away_ends_nothing(source: Path, tmp_path: Path, serve: Callable[..., Server]) -> None:
    models, said = tmp_path / "models", []
    with object_store.running() as store:
        store.client().create_bucket(Bucket="bucket")
        push_version(store, source, "s3://bucket", 1)
        with started(store, "pull", "s3://bucket", "--models", models, "--watch", "0.1") as side:
            assert side.stdout is not None
            assert side.stderr is not None
            assert side.stdout.readline() == "colours/1 is in place\n"
            server = serve("--models", str(models), "--watch", "0.1")
            store.process.kill()
            store.process.wait()
            said.append(side.stderr.readline())
            with object_store.running(store.port) as again:  # which has lost everything
                said.append(side.stderr.readline())
                again.client().create_bucket(Bucket="bucket")
                again.client().put_object(Bucket="bucket", Key="notes.txt", Body=b"text")
                said.append(side.stderr.readline())
                assert label(server) == "red"
                push_version(again, source, "s3://bucket", 2)
                assert side.stdout.readline() == "colours/2 is in place\n"
                eventually(lambda: label(server) == "blue")
    assert said[0].startswith("kernelscope pull: s3://bucket")
    assert " cannot be " in said[0]
    assert said[0].endswith("; what is there stays\n")
    assert said[1].endswith("; what is there stays\n")
    assert said[2] == "kernelscope pull: the store is read again\n"


def test_two_that_pull_and_one_that_is_killed(s3: ObjectStore, address: str, source: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    (source / "colours" / "2" / "large.bin").write_bytes(os.urandom(2**24))
    for version in (1, 2):
        push_version(s3, source, address, version)
    words = ("pull", address, "--models", models, "--keep", "0", "--watch", "0.05")
    with started(s3, *words) as first, started(s3, *words) as second:
        eventually(lambda: list(models.glob("colours/.download-*/large.bin")))
        first.kill()
        second_too = second.poll()
        eventually(lambda: repository.models(models) == {"colours": [1, 2]} if models.exists() else False)
        eventually(lambda: not list(models.glob("colours/.download-*")))
        second.send_signal(signal.SIGTERM)
        _, errors = second.communicate(timeout=30)
    assert second_too is None
    assert errors == ""
    for version in (1, 2):
        manifest.check_if_there(models / "colours" / str(version))


def test_who_pulls_waits_for_another_who_does(source: Path, tmp_path: Path) -> None:
    store, models = Store((tmp_path / "store").as_uri()), tmp_path / "models"
    push(repository.find(source, "colours", 1), store)
    models.mkdir()
    thread = threading.Thread(target=Puller(store, models, 1).round)
    with (models / ".pull.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread.start()
        thread.join(0.5)  # it takes a hundredth of that where nobody else pulls
        assert thread.is_alive()
        assert not (models / "colours").exists()
    thread.join(30)
    assert repository.models(models) == {"colours": [1]}


def test_a_version_is_replaced_in_one_step(source: Path, tmp_path: Path) -> None:
    """Whoever looks while another digest takes its place sees the one or the other, whole."""
    models, address = tmp_path / "models", (tmp_path / "store").as_uri()
    store, there = Store(address), tmp_path / "store" / "colours" / "1"
    push(repository.find(source, "colours", 1), store)
    puller = Puller(store, models, 1)
    assert puller.round().placed == ["colours/1"]
    ended, seen, wrong = threading.Event(), set[str](), list[str]()

    def look() -> None:
        while not ended.is_set():
            try:
                seen.add(repository.find(models, "colours", 1).card.labels[0])
                if not (models / "colours" / "1" / bundle.MODEL).is_file():
                    wrong.append("no model")
            except BundleError as error:
                wrong.append(str(error))

    thread = threading.Thread(target=look)
    thread.start()
    for turn in range(60):
        content = source / "colours" / str(1 + (turn + 1) % 2)
        (there / bundle.CARD).write_bytes((content / bundle.CARD).read_bytes())
        (there / manifest.NAME).write_bytes(manifest.make(there, "colours", 1).to_json())
        assert puller.round().placed == ["colours/1"]
    ended.set()
    thread.join()
    assert wrong == []
    assert seen == {"red", "blue"}
    assert len(list((models / "colours").iterdir())) == 3  # the link, what it is to, and what was there before


def test_a_folder_of_ones_own_is_not_replaced(source: Path, tmp_path: Path) -> None:
    store = Store("memory://models")
    push(repository.find(source, "colours", 2), store)
    own = colour_bundle(tmp_path / "models", version=2)
    changes = Puller(store, tmp_path / "models", 1).round()
    assert "did not come from a store" in changes.refused["colours/2"]
    assert bundle.read(own.folder).card.labels[0] == "red"
    colour_bundle(tmp_path / "models", version=1)
    assert repository.models(tmp_path / "models") == {"colours": [1, 2]}


def test_a_file_that_is_damaged_on_the_disk_is_refused_and_pulled_anew(
    source: Path, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    store, models = Store((tmp_path / "store").as_uri()), tmp_path / "models"
    for version in (1, 2):
        push(repository.find(source, "colours", version), store)
    Puller(store, models, 2).round()
    path = models / "colours" / "2" / bundle.MODEL
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    server = serve("--models", str(models), "--watch", "0.1")
    assert label(server) == "red"
    (refused,) = server.client.get("/models").json()["refused"]
    assert (refused["name"], refused["version"]) == ("colours", 2)
    assert "it is damaged" in refused["reason"]
    assert Puller(store, models, 2).round().placed == ["colours/2"]
    eventually(lambda: label(server) == "blue")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"files": {"../../evil": {"size": 1, "sha256": "0" * 64}}}, "names the file '../../evil'"),
        ({"files": {"/etc/evil": {"size": 1, "sha256": "0" * 64}}}, "names the file '/etc/evil'"),
        ({"files": {"a/../../evil": {"size": 1, "sha256": "0" * 64}}}, "names the file"),
        ({"files": {"manifest.json": {"size": 1, "sha256": "0" * 64}}}, "names the file"),
        ({"files": {}}, "does not name model.onnx"),
        ({"files": {"model.onnx": {"size": -1, "sha256": "0" * 64}}}, "is no manifest"),
        ({"files": {"model.onnx": {"size": 1, "sha256": "x"}}}, "has no SHA-256 of model.onnx"),
        ({"version": 2}, "is that of colours/2"),
        ({"model": "pets"}, "is that of pets/1"),
        ({"format": 2}, "is of format 2; this version reads 1"),
        ({"more": 1}, "is no manifest"),
    ],
)
def test_manifests_that_lie(source: Path, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    address = (tmp_path / "store").as_uri()
    store, path = Store(address), tmp_path / "store" / "colours" / "1" / manifest.NAME
    push(repository.find(source, "colours", 1), store)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    changes = Puller(store, tmp_path / "models", 1).round()
    assert says in changes.refused["colours/1"]
    assert "\n" not in changes.refused["colours/1"]
    assert repository.models(tmp_path / "models") == {}


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"x" * (manifest.LARGEST + 1)])
def test_what_is_no_manifest(source: Path, tmp_path: Path, data: bytes) -> None:
    store = Store((tmp_path / "store").as_uri())
    push(repository.find(source, "colours", 1), store)
    (tmp_path / "store" / "colours" / "1" / manifest.NAME).write_bytes(data)
    assert "manifest.json" in Puller(store, tmp_path / "models", 1).round().refused["colours/1"]


def test_a_version_does_not_change(source: Path, tmp_path: Path) -> None:
    store = Store((tmp_path / "store").as_uri())
    found = repository.find(source, "colours", 1)
    assert push(found, store)
    assert not push(found, store)
    (found.folder / "notes.txt").write_text("more")
    with pytest.raises(BundleError, match="a version does not change"):
        push(found, store)


def test_the_newest_whole_versions_are_kept(source: Path, tmp_path: Path) -> None:
    """A refused version takes no place of one that can be served."""
    store = Store((tmp_path / "store").as_uri())
    colour_bundle(source, version=3)
    for version in (1, 2, 3):
        push(repository.find(source, "colours", version), store)
    (tmp_path / "store" / "colours" / "3" / bundle.MODEL).write_bytes(b"other")
    assert Puller(store, tmp_path / "models", 2).round().placed == ["colours/2", "colours/1"]
    assert repository.models(tmp_path / "models") == {"colours": [1, 2]}


def test_what_a_user_gets_wrong_is_one_line(s3: ObjectStore, source: Path, tmp_path: Path) -> None:
    models = str(tmp_path / "models")
    cases = [
        (("pull", "models", "--models", models), 1, "'models' is no address"),
        (("pull", "s3://", "--models", models), 1, "'s3://' is no address"),
        (("pull", "nonsense://x", "--models", models), 1, "nonsense://x cannot be used"),
        (("pull", "s3://absent", "--models", models), 1, "there is nothing at s3://absent"),
        (("pull", f"file://{tmp_path}/absent", "--models", models), 1, "there is nothing at"),
        (("pull", "s3://bucket"), 2, "give the folder to fill"),
        (("pull", "s3://bucket", "--models", models, "--keep", "-1"), 2, "--keep is -1"),
        (("pull", "s3://bucket", "--models", models, "--watch", "nan"), 2, "--watch is nan"),
        (("push", "colours", "s3://absent", "--models", str(source)), 1, "s3://absent"),
        (("push", "pets", "s3://absent", "--models", str(source)), 1, "there is no model 'pets'"),
    ]
    for words, code, says in cases:
        done = run(s3, *words)
        assert (done.returncode, done.stderr.count("\n")) == (code, 1), (words, done.stderr)
        assert says in done.stderr, (words, done.stderr)


def test_what_is_damaged_is_not_downloaded_at_every_look(source: Path, tmp_path: Path) -> None:
    store = Store((tmp_path / "store").as_uri())
    push(repository.find(source, "colours", 1), store)
    path = tmp_path / "store" / "colours" / "1" / bundle.MODEL
    right = path.read_bytes()
    path.write_bytes(b"other")
    puller = Puller(store, tmp_path / "models", 1)
    reason = puller.round().refused["colours/1"]
    path.write_bytes(right)
    assert puller.round().refused == {"colours/1": reason}
    assert puller.round().placed == ["colours/1"]


def test_a_folder_that_cannot_be_written(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    push(repository.find(source, "colours", 1), Store((tmp_path / "store").as_uri()))
    done = subprocess.run(
        [*command("pull", (tmp_path / "store").as_uri(), "--models", str(tmp_path / "file" / "models"))],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr


def test_a_store_that_cannot_be_reached_leaves_what_was_said(source: Path, tmp_path: Path) -> None:
    store, models = Store((tmp_path / "store").as_uri()), tmp_path / "models"
    push(repository.find(source, "colours", 1), store)
    (tmp_path / "store" / "colours" / "1" / bundle.MODEL).write_bytes(b"other")
    puller = Puller(store, models, 1)
    puller.round()
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="there is nothing at"):
        puller.round()
    assert list(repository.scan(models).ignored) == ["colours/1"]
    (models / ".refused.json").write_text("{")
    assert repository.scan(models).ignored == {".refused.json": "cannot be read"}


def test_serving_needs_no_fsspec(tmp_path: Path) -> None:
    code = "import sys, service.app, service.server; assert 'fsspec' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
