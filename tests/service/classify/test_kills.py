"""A job of classification that is killed at any moment goes on, and each image is classified once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support.images import image
from tests.support.models import slow_bundle
from tests.support.processes import family
from tests.support.server import ROOT, command
from tests.support.waiting import eventually

IMAGES = 3000
KILLS = 5
COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images whose names say their colour; every hundredth is none."""
    root = tmp_path_factory.mktemp("photos")
    encoded = {colour: image(colour) for colour in COLOURS}
    for number in range(IMAGES):
        colour = COLOURS[number % 3]
        path = root / f"{number // 500}" / f"{number}-{colour}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"damaged" if number % 100 == 0 else encoded[colour])
    return root


def start(photos: Path, output: Path, models: Path) -> subprocess.Popen[str]:
    words = ("classify", str(photos), "--output", str(output), "--models", str(models), "--workers", "2")
    return subprocess.Popen(
        command(*words), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def parts(output: Path) -> int:
    return len(list((output / ".job" / "parts").glob("*.parquet")))


def wait_for_parts(output: Path, count: int) -> None:
    eventually(lambda: parts(output) >= count)


def wait_for_the_end(members: list[int]) -> None:
    eventually(lambda: not any(Path(f"/proc/{member}").exists() for member in members))


def check(output: Path) -> None:
    found: list[dict[str, Any]] = pq.read_table(output / "predictions.parquet").to_pylist()
    assert len(found) == len({row["file"] for row in found}) == IMAGES
    for row in found:
        number, colour = row["file"].rsplit("/", 1)[1].removesuffix(".png").split("-")
        if int(number) % 100 == 0:
            assert row["code"] == "unsupported_image"
        else:
            assert row["label"] == colour
    assert sorted(path.name for path in output.iterdir()) == [".job", "predictions.parquet"]


def works(pid: int) -> bool:
    """Whether a process is one that classifies, and not one that has just ended."""
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


def test_killed_at_random_each_image_is_classified_once(tmp_path: Path, photos: Path) -> None:
    slow_bundle(tmp_path / "models", "colours", seconds=0.4)
    output, draw = tmp_path / "results", random.Random(0)  # noqa: S311  # the moments need not be secret
    for kill in range(KILLS):
        before = parts(output)
        process = start(photos, output, tmp_path / "models")
        if kill:  # the first one is killed whatever it is at: imports, listing, the first images
            wait_for_parts(output, before + 1)
        threading.Event().wait(draw.uniform(0, 1))
        members = family(process.pid)[1:]
        process.send_signal(signal.SIGKILL)
        process.communicate()
        wait_for_the_end(members)  # they notice that they are alone
    assert not (output / "predictions.parquet").exists(), "it was done before it was killed: nothing was tried"
    process = start(photos, output, tmp_path / "models")
    _, errors = process.communicate(timeout=250)
    assert process.returncode == 0, errors
    assert f"of {IMAGES:,} images are done" in errors
    check(output)


def test_a_worker_that_dies_is_replaced(tmp_path: Path, photos: Path) -> None:
    slow_bundle(tmp_path / "models", "colours", seconds=0.4)
    process = start(photos, tmp_path / "results", tmp_path / "models")
    for done in (1, 3):
        wait_for_parts(tmp_path / "results", done)
        os.kill(next(pid for pid in family(process.pid)[1:] if works(pid)), signal.SIGKILL)
    _, errors = process.communicate(timeout=250)
    assert process.returncode == 0, errors
    check(tmp_path / "results")


@pytest.mark.parametrize("done", [0, 1])
def test_ctrl_c_ends_it_in_order(tmp_path: Path, photos: Path, done: int) -> None:
    slow_bundle(tmp_path / "models", "colours", seconds=0.4)
    process = start(photos, tmp_path / "results", tmp_path / "models")
    eventually((tmp_path / "results" / ".job").exists)  # the processes are at their imports
    wait_for_parts(tmp_path / "results", done)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    """The listing is what would: a hundred thousand names are ten megabytes and more."""
    photos = tmp_path / "photos"
    photos.mkdir()
    script = (
        "import resource, sys; from pathlib import Path; from service.classify import listing, sources\n"
        "folder = Path(sys.argv[1]); folder.mkdir()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(listing.write(sources.find(sys.argv[2]), folder).images)\n"
        "print(sum(1 for _ in listing.read(folder, 64_000, 1024)))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    (photos / "list.txt").write_text("".join(f"{'x' * 100}/{number}.png\n" for number in range(200_000)))
    done = subprocess.run(
        [*command()[:1], "-c", script, str(tmp_path / "job"), str(photos / "list.txt")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    images, part, kilobytes = map(int, done.stdout.split())
    assert (images, part) == (200_000, 1024)
    assert kilobytes < 8 * 1024
