"""Images that are unsure or disputed are kept, within bounds, and nothing that goes wrong there stops the service."""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.feedback.bucket import FeedbackBucket
from service.feedback.folder import FeedbackFolder
from service.feedback.keeper import TokenBucket
from service.feedback.recent import Answered, RecentAnswers, own
from service.feedback.sample import ANSWER, Sample, StoreFull, folder_name
from tests.support.group import reach, workers
from tests.support.images import image
from tests.support.models import COLOURS, colour_bundle
from tests.support.server import ROOT, Server, command, figures
from tests.support.waiting import eventually

SECRET = b"Jane Doe, 52.5163 N 13.3777 E"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    colour_bundle(root, unsure_below=0.5)
    return root


def kept(folder: Path, kind: str = "*", label: str = "*") -> list[Path]:
    return sorted(folder.glob(f"colours/{kind}/{label}/*.png"))


def dropped(server: Server, reason: str) -> float:
    return figures(server)[f"kernelscope_feedback_dropped_images_total[('reason', '{reason}')]"]


def with_metadata(colour: str) -> bytes:
    """A JPEG whose EXIF and comment name a person and a place."""
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    exif[0x9286] = SECRET.decode()
    out = io.BytesIO()
    Image.open(io.BytesIO(image(colour, (8, 8)))).save(out, "JPEG", exif=exif, comment=SECRET, quality=95)
    assert SECRET in out.getvalue()
    return out.getvalue()


def sample(label: str = "red") -> Sample:
    return Sample("unsure", "colours", 1, ((label, 0.4),), None, np.zeros((8, 8, 3), np.uint8))


def test_an_unsure_image_is_kept_without_its_metadata(
    serve: Callable[..., Server], models: Path, tmp_path: Path
) -> None:
    server = serve("--models", str(models), "--feedback", str(tmp_path / "kept"))
    assert server.client.post("/predict", content=with_metadata("grey")).json()["unsure"] is True
    assert server.client.post("/predict", content=with_metadata("red")).json()["unsure"] is False
    (path,) = eventually(lambda: kept(tmp_path / "kept"))
    data = path.read_bytes()
    assert SECRET not in data
    found = Image.open(io.BytesIO(data))
    answer = json.loads(found.text[ANSWER])  # type: ignore[attr-defined]
    assert (answer["model"], answer["version"], answer["disputed_as"]) == ("colours", 1, None)
    label = max(answer["answers"], key=answer["answers"].get)
    assert answer["answers"][label] < 0.5
    assert path.parent.name == label
    assert found.size == (8, 8)
    assert np.array(found).max() - np.array(found).min() < 5  # grey
    assert figures(server)["kernelscope_feedback_bytes[]"] == len(data)


def test_nothing_is_kept_unless_a_folder_is_set(server: Server) -> None:
    refused = server.client.post("/feedback?label=red", content=image())
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "feedback_off")


def test_a_disputed_answer_is_kept_with_what_the_client_says(
    serve: Callable[..., Server], models: Path, tmp_path: Path
) -> None:
    """By the request's id, whichever process answered it, and by the image itself."""
    server = serve("--models", str(models), "--feedback", str(tmp_path), "--feedback-rate", "100", "--workers", "2")
    with reach(server) as clients:
        first, second = clients.values()
        for number, (asked, disputes) in enumerate(((first, second), (second, first), (first, first)), 1):
            answer = asked.post("/predict", content=image("red"))
            identity = answer.headers["x-request-id"]
            reply = disputes.post(f"/feedback?request_id={identity}&label=blue")
            assert (reply.status_code, reply.json()) == (202, {"accepted": True})
            eventually(lambda count=number: len(kept(tmp_path, "disputed", "blue")) == count)  # type: ignore[misc]
        assert first.post("/feedback?label=green", content=image("red")).status_code == 202
        (path,) = eventually(lambda: kept(tmp_path, "disputed", "green"))
        answer = json.loads(Image.open(path).text[ANSWER])  # type: ignore[attr-defined]
        assert (next(iter(answer["answers"])), answer["disputed_as"]) == ("red", "green")
        batch = first.post("/predict/batch", files=[("file", image("red")), ("file", image("green"))])
        identity = batch.headers["x-request-id"]
        assert (
            second.post(f"/feedback?request_id={identity}&index=1").status_code == 202
        )  # the client does not say what
        (unsaid,) = eventually(lambda: kept(tmp_path, "disputed", "green")[1:])
        assert unsaid.parent.name == "green"


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("request_id=nobody", 404, "unknown_request"),
        ("label=purple", 422, "invalid_parameter"),
        ("label=red&request_id=known&index=1", 422, "invalid_parameter"),
        ("index=-1", 422, "invalid_parameter"),
        ("model=nothing", 404, "unknown_model"),
    ],
)
def test_feedback_that_cannot_be_taken(disputing: Server, query: str, status: int, code: str) -> None:
    disputing.client.post("/predict", content=image(), headers={"x-request-id": "known"})
    reply = disputing.client.post(f"/feedback?{query}", content=image())
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert disputing.client.post("/feedback").json()["error"]["code"] == "empty"


@pytest.fixture(scope="module")
def disputing(serve: Callable[..., Server], models: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    return serve("--models", str(models), "--feedback", str(tmp_path_factory.mktemp("kept")))


def test_what_was_sorted_is_read_by_inspect(serve: Callable[..., Server], models: Path, tmp_path: Path) -> None:
    server = serve("--models", str(models), "--feedback", str(tmp_path), "--feedback-rate", "100")
    for colour, label in (("red", "blue"), ("green", "green"), ("blue", "red")):
        for shade in range(3):
            size = (8 + shade, 8)
            assert server.client.post(f"/feedback?label={label}", content=image(colour, size)).status_code == 202
    eventually(lambda: len(kept(tmp_path, "disputed")) == 9)
    (wrong, *_), blue = kept(tmp_path, "disputed", "blue"), tmp_path / "colours" / "disputed" / "blue"
    wrong.rename(blue.parent / "red" / wrong.name)  # a person sorts
    done = subprocess.run(
        command("inspect", str(blue.parent), "--json"), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(done.stdout)["classes"]) == sorted(COLOURS)


def test_the_rate_is_bounded(serve: Callable[..., Server], models: Path, tmp_path: Path) -> None:
    server = serve("--models", str(models), "--feedback", str(tmp_path), "--feedback-rate", "0.001")
    for _ in range(20):
        assert server.client.post("/predict", content=image("grey")).status_code == 200
    assert dropped(server, "rate") == 19
    assert server.client.post("/feedback", content=image("red")).status_code == 202  # a rate of its own
    refused = server.client.post("/feedback", content=image("red"))
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_requests")
    assert refused.headers["retry-after"]
    eventually(lambda: len(kept(tmp_path)) == 2)


def test_a_folder_that_is_removed_stops_nothing(serve: Callable[..., Server], models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    server = serve("--models", str(models), "--feedback", str(folder), "--feedback-rate", "100")
    eventually(folder.is_dir)
    folder.rmdir()
    for _ in range(5):
        assert server.client.post("/predict", content=image("grey")).status_code == 200
    eventually(lambda: dropped(server, "storage") == 5)
    assert not folder.exists()  # a volume that is away is not written beside
    folder.mkdir()
    server.client.post("/predict", content=image("grey"))
    assert eventually(lambda: kept(folder))
    assert server.end() == 0
    (line,) = [line["message"] for line in server.log() if "cannot be kept" in line["message"]]
    assert str(folder) in line


def test_a_disk_that_is_full_stops_nothing(serve: Callable[..., Server], models: Path) -> None:
    full = Path("/dev/full/kept")  # a folder that can never be made
    server = serve("--models", str(models), "--feedback", str(full))
    assert server.client.post("/predict", content=image("grey")).status_code == 200
    assert server.client.post("/feedback", content=image("red")).status_code == 202
    eventually(lambda: dropped(server, "storage") >= 2)
    assert server.client.get("/health/ready").status_code == 200


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    folder = FeedbackFolder(tmp_path, 2**20, 30)
    folder.open()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))  # what a full disk does to a file
    try:
        with pytest.raises(OSError, match="File too large"):
            folder.keep(sample())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert folder.held == 0


def test_a_folder_holds_no_more_than_it_may(tmp_path: Path) -> None:
    size = len(sample().png())
    folder = FeedbackFolder(tmp_path, 3 * size + size // 2, 30)
    folder.open()
    for _ in range(3):
        folder.keep(sample())
    with pytest.raises(StoreFull):
        folder.keep(sample())
    again = FeedbackFolder(tmp_path, 3 * size + size // 2, 30)  # after a restart
    again.open()
    assert again.held == folder.held == 3 * size
    with pytest.raises(StoreFull):
        again.keep(sample())


def test_old_samples_are_removed_and_nothing_else(tmp_path: Path) -> None:
    folder = FeedbackFolder(tmp_path, 2**20, days=1)
    folder.open()
    folder.keep(sample("red"))
    folder.keep(sample("blue"))
    (old,), (young,) = kept(tmp_path, label="red"), kept(tmp_path, label="blue")
    own_file, elsewhere = old.with_name("mine.png"), tmp_path / "colours" / "sorted" / "red" / old.name
    elsewhere.parent.mkdir(parents=True)
    for path in (own_file, elsewhere):
        path.write_bytes(old.read_bytes())
    aged = time.time() - 2 * 86400
    for path in (old, own_file, elsewhere):
        os.utime(path, (aged, aged))
    folder.expire()
    assert (old.exists(), young.exists(), own_file.exists(), elsewhere.exists()) == (False, True, True, True)
    assert folder.held == young.stat().st_size


@pytest.mark.parametrize("label", ["../../etc", "a/b", "..", ".hidden", "", "CON:", "x" * 500, "\x00", "ends."])
def test_a_class_stays_in_the_folder(tmp_path: Path, label: str) -> None:
    root = tmp_path / "kept"
    folder = FeedbackFolder(root, 2**20, 30)
    folder.open()
    folder.keep(sample(label))
    (path,) = kept(root)
    assert path.parent.parent == root / "colours" / "unsure"
    assert not folder_name(label).startswith(".")
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]


def test_the_oldest_answers_make_room() -> None:
    def answered(images: int) -> Answered:
        return Answered("m", 1, COLOURS, np.zeros((images, 8, 8, 3), np.uint8), np.zeros((images, 3), np.float32))

    recent = RecentAnswers(20 * answered(1).size)
    for number in range(30):
        recent.add(str(number), answered(1))
    recent.add("29", answered(1))  # a client's own id, twice
    recent.add("large", answered(100))
    remembered = [number for number in range(30) if recent.find(str(number))]
    assert remembered == list(range(10, 30))
    assert recent.find("large") is None


def test_a_part_of_a_larger_array_is_copied() -> None:
    whole = np.zeros((8, 8, 3), np.uint8)
    assert np.shares_memory(own(whole[None]), whole)
    assert not np.shares_memory(own(whole[:4]), whole)
    body = bytes(200)
    assert own(np.frombuffer(body, np.uint8)).base is None


def test_tokens_come_with_time() -> None:
    now = [0.0]
    bucket = TokenBucket(0.5, partial(now.__getitem__, 0))
    assert [bucket.take(), bucket.take()] == [True, False]
    now[0] = 2
    assert [bucket.take(), bucket.take()] == [True, False]
    now[0] = 1000
    assert [bucket.take(), bucket.take()] == [True, False]


def test_a_process_that_dies_takes_no_samples_with_it(
    serve: Callable[..., Server], models: Path, tmp_path: Path
) -> None:
    """The one that writes is replaced by one that writes."""
    server = serve("--models", str(models), "--feedback", str(tmp_path), "--feedback-rate", "100", "--workers", "2")
    first = workers(server)[0]
    os.kill(first, 9)
    eventually(lambda: len(workers(server)) == 2 and first not in workers(server))
    eventually(lambda: server.client.get("/health/ready").status_code == 200)
    server.client.post("/predict", content=image("grey"))
    assert eventually(lambda: kept(tmp_path))


@pytest.fixture
def bucket() -> Iterator[dict[str, str]]:
    """The environment in which a server finds an object store, moto's, with a bucket."""
    code = (
        "import threading; from moto.server import ThreadedMotoServer\n"
        "server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False); server.start()\n"
        "print(server.get_host_and_port()[1], flush=True); threading.Event().wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        keys = {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "secret"}
        yield {**keys, "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": address}
        process.terminate()


def test_samples_in_an_object_store(
    serve: Callable[..., Server], models: Path, bucket: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec = pytest.importorskip("fsspec")
    pytest.importorskip("s3fs")
    for name, value in bucket.items():
        monkeypatch.setenv(name, value)
    fsspec.config.conf["s3"] = {"skip_instance_cache": True}
    system = fsspec.filesystem("s3", use_listings_cache=False)
    system.mkdir("kept")
    server = serve("--models", str(models), "--feedback", "s3://kept/here", "--feedback-rate", "100", **bucket)
    server.client.post("/predict", content=with_metadata("grey"))
    server.client.post("/feedback?label=blue", content=image("red"))
    eventually(lambda: len(system.find("kept")) == 2)
    found: list[str] = system.find("kept")
    (disputed,) = [name for name in found if name.startswith("kept/here/colours/disputed/blue/")]
    assert json.loads(Image.open(io.BytesIO(system.cat(disputed))).text[ANSWER])["disputed_as"] == "blue"  # type: ignore[attr-defined]
    store = FeedbackBucket("s3://kept/here", 2**20, days=1)
    store.open()
    assert store.held == sum(system.size(name) for name in found)
    old = "kept/here/colours/unsure/red/20200101-0123456789abcdef.png"
    for name in (
        old,
        "kept/here/colours/unsure/red/mine.png",
        "kept/here/colours/sorted/red/20200101-0123456789abcdef.png",
    ):
        system.pipe_file(name, b"x")
    store.expire()
    assert (system.exists(old), len(system.find("kept"))) == (False, 4)
    store.most = store.held
    with pytest.raises(StoreFull):
        store.keep(sample())
    system.rm("kept", recursive=True)  # the bucket is gone: requests go on
    assert server.client.post("/predict", content=image("grey")).status_code == 200
    eventually(lambda: dropped(server, "storage"))
    assert server.client.get("/health/ready").status_code == 200


def test_an_address_that_nothing_knows(colours: Path) -> None:
    words = command("serve", "--models", str(colours), "--port", "0", "--feedback", "nowhere://there")
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "KERNELSCOPE_FEEDBACK is 'nowhere://there'" in done.stderr
    assert "Traceback" not in done.stderr
