"""Images in object storage: moto's S3 server, over HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support import object_store
from tests.support.images import image
from tests.support.models import colour_bundle, slow_bundle
from tests.support.server import ROOT, command
from tests.support.waiting import eventually

COLOURS = ("red", "green", "blue")
IMAGES = 1500
"""More than the thousand that a page of the listing has."""


@pytest.fixture(scope="module")
def storage() -> Iterator[dict[str, str]]:
    """The environment in which commands find the server."""
    with object_store.running() as store:
        client = store.client()
        client.create_bucket(Bucket="photos")
        encoded = {colour: image(colour) for colour in COLOURS}
        for number in range(IMAGES):
            colour = COLOURS[number % 3]
            client.put_object(Bucket="photos", Key=f"pets/{number % 7}/{number}-{colour}.png", Body=encoded[colour])
        client.put_object(Bucket="photos", Key="pets/empty.png", Body=b"")
        client.put_object(Bucket="photos", Key="pets/text.jpg", Body=b"text")
        client.put_object(Bucket="photos", Key="pets/notes.txt", Body=b"text")
        client.put_object(Bucket="photos", Key="pets-too/1-red.png", Body=encoded["red"])
        yield store.environment


def start(environment: dict[str, str], *words: str) -> subprocess.Popen[str]:
    lenient = [word for word in command("classify", *words) if word not in {"-W", "error"}]
    return subprocess.Popen(
        lenient, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def check(output: Path) -> None:
    found = pq.read_table(output / "predictions.parquet").to_pylist()
    by_name = {row["file"]: row for row in found}
    assert len(found) == len(by_name) == IMAGES + 2
    assert by_name.pop("s3://photos/pets/empty.png")["code"] == "empty"
    assert by_name.pop("s3://photos/pets/text.jpg")["code"] == "unsupported_image"
    assert all(name.removesuffix(".png").endswith(f"-{row['label']}") for name, row in by_name.items())
    assert all(name.startswith("s3://photos/pets/") for name in by_name)


def test_a_folder_of_a_bucket(tmp_path: Path, storage: dict[str, str]) -> None:
    colour_bundle(tmp_path / "models")
    words = ("s3://photos/pets", "--output", str(tmp_path / "results"), "--models", str(tmp_path / "models"))
    process = start(storage, *words)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    check(tmp_path / "results")


def test_it_is_killed_and_goes_on(tmp_path: Path, storage: dict[str, str]) -> None:
    slow_bundle(tmp_path / "models", "colours", seconds=0.4)
    words = ("s3://photos/pets/", "--output", str(tmp_path / "results"), "--models", str(tmp_path / "models"))
    process = start(storage, *words)
    eventually(lambda: list((tmp_path / "results" / ".job").glob("parts/*.parquet")))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    process = start(storage, *words)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert "goes on" in errors
    check(tmp_path / "results")


@pytest.mark.parametrize(
    ("where", "change", "says"),
    [
        ("s3://absent/pets", {}, "s3://absent/pets cannot be listed: "),
        ("s3://photos/none", {}, "holds no images"),
        ("s3://photos/pets", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "s3://photos/pets cannot be listed: "),
    ],
)
def test_what_cannot_be_listed_is_one_line(
    tmp_path: Path, storage: dict[str, str], where: str, change: dict[str, str], says: str
) -> None:
    colour_bundle(tmp_path / "models")
    process = start({**storage, **change}, where, "--output", str(tmp_path / "r"), "--models", str(tmp_path / "models"))
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 1
    assert says in errors
    assert errors.count("\n") == 1, errors
    assert not (tmp_path / "r").exists()
