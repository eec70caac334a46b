"""`kernelscope classify`: folders and manifests, bad images, and what a job goes on with or refuses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import kernelscope
from contract import repository
from kernelscope import cli
from tests.support.images import image, png_of_size
from tests.support.models import ROTATED, colour_bundle, publish

COLOURS = ("red", "green", "blue")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository of its own, which a test may change."""
    colour_bundle(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of images in folders, some of which cannot be read, and of what is none."""
    root = tmp_path / "photos"
    for number in range(9):
        path = root / COLOURS[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image(COLOURS[number % 3], (20, 12)))
    (root / "photo.webp").write_bytes(image("blue", (300, 200), "WEBP"))
    (root / "photo").write_bytes(image("red", (30, 20), "JPEG"))
    (root / "empty.png").write_bytes(b"")
    (root / "text.jpg").write_bytes(b"this is a text")
    (root / "cut.png").write_bytes(image("red", (64, 64))[:-30])
    (root / "huge.png").write_bytes(png_of_size(30_000, 30_000))
    (root / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    (root / ".hidden.png").write_bytes(image())
    (root / "notes.txt").write_text("no image")
    (root / ".git").mkdir()
    (root / ".git" / "icon.png").write_bytes(image())
    os.mkfifo(root / "pipe.png")
    return root


COLUMNS = {"file", "label", "index", "probability", "unsure", "top", "code", "error"}
"""What people's programs read: they may become more."""
BAD = {
    "empty.png": "empty", "text.jpg": "unsupported_image", "cut.png": "undecodable_image", "huge.png": "too_large",
    "phone.heic": "unsupported_image",
}  # fmt: skip


def classify(where: str | Path, output: Path, models: Path, *words: str) -> int:
    arguments = ["classify", str(where), "--output", str(output), "--models", str(models), "--workers", "1", *words]
    return cli.main(arguments)


def rows(output: Path) -> dict[str, dict[str, Any]]:
    found = pq.read_table(output / "predictions.parquet").to_pylist()
    by_name = {row["file"]: row for row in found}
    assert len(by_name) == len(found)
    return by_name


def refused(capsys: pytest.CaptureFixture[str], code: int, says: str) -> None:
    assert code in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("kernelscope classify: ")
    assert error.count("\n") == 1, error
    assert says in error


def test_a_folder_with_bad_images(
    tmp_path: Path, photos: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert classify(photos, tmp_path / "results", models, "--top-k", "2") == 0
    assert "16 images, 5 not readable" in capsys.readouterr().out
    found = rows(tmp_path / "results")
    assert {name: row["code"] for name, row in found.items() if row["code"]} == BAD
    assert set(found["empty.png"]) >= COLUMNS
    good = {name: row for name, row in found.items() if not row["code"]}
    assert len(good) == 11
    classifier = kernelscope.load(models / "colours")
    for name, row in good.items():
        answer = classifier.predict(photos / name)
        assert (row["label"], row["index"], row["unsure"]) == (answer.label, answer.index, answer.unsure)
        assert row["probability"] == pytest.approx(answer.probability, abs=1e-6)
        assert [one["label"] for one in row["top"]] == [one.label for one in answer.top[:2]]
        assert row["error"] is None
    for name in BAD:
        assert found[name]["label"] is found[name]["probability"] is found[name]["top"] is None
        assert found[name]["error"]
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [".job", "predictions.parquet"]


def test_names_of_any_bytes(tmp_path: Path, models: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in (b"two\nlines.png", b"\xff\xfe.png", "größe.png".encode(), b"12:34.png"):
        Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).write_bytes(image("green"))
    assert classify(folder, tmp_path / "results", models) == 0
    found = rows(tmp_path / "results")
    assert set(found) == {"two\nlines.png", "\\xff\\xfe.png", "größe.png", "12:34.png"}
    assert {row["label"] for row in found.values()} == {"green"}


@pytest.mark.parametrize("kind", ["txt", "csv", "file://"])
def test_a_manifest_and_an_address(tmp_path: Path, photos: Path, models: Path, kind: str) -> None:
    names = ["red/0.png", "green/1.png", "absent.png", "blue", "pipe.png", str(photos / "blue" / "2.png")]
    if kind == "txt":
        where = photos / "list.txt"
        where.write_text("".join(f"{name}\n\n" for name in names))
    elif kind == "csv":
        where = photos / "list.csv"
        where.write_text("number,file\n" + "".join(f'{number},"{name}"\n' for number, name in enumerate(names)))
    else:
        names = [f"file://{photos}/{colour}/{number}.png" for colour, number in (("red", 3), ("green", 4))]
        where = photos / "list.txt"
        where.write_text("\n".join(names))
    assert classify(where, tmp_path / "results", models) == 0
    found = rows(tmp_path / "results")
    assert set(found) == set(names)
    assert found[names[0]]["label"] == "red"
    assert found[names[1]]["label"] == "green"
    if kind != "file://":
        assert found[names[-1]]["label"] == "blue"
        assert [found[name]["code"] for name in names[2:5]] == ["unreadable_file"] * 3
        assert "no such file" in found["absent.png"]["error"]
        assert "not a file" in found["pipe.png"]["error"]


def test_an_address_of_a_folder(tmp_path: Path, photos: Path, models: Path) -> None:
    (photos / "pipe.png").unlink()
    assert classify(f"file://{photos}", tmp_path / "results", models) == 0
    found = rows(tmp_path / "results")
    prefix = f"file://{photos}/"
    assert {name.removeprefix(prefix): row["code"] for name, row in found.items() if row["code"]} == BAD
    assert len(found) == 15  # all but the one whose name does not say that it is an image


def test_an_image_twice_in_a_manifest_has_two_rows(tmp_path: Path, photos: Path, models: Path) -> None:
    (photos / "list.txt").write_text("red/0.png\nred/0.png\n")
    assert classify(photos / "list.txt", tmp_path / "results", models) == 0
    assert pq.read_metadata(tmp_path / "results" / "predictions.parquet").num_rows == 2


def test_a_job_that_is_done_stays_so(
    tmp_path: Path, photos: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert classify(photos, tmp_path / "results", models) == 0
    before = (tmp_path / "results" / "predictions.parquet").stat().st_mtime_ns
    assert classify(photos, tmp_path / "results", models) == 0
    assert "predictions.parquet is whole: 16 images" in capsys.readouterr().out
    assert (tmp_path / "results" / "predictions.parquet").stat().st_mtime_ns == before


def test_what_a_job_does_not_go_on_with(
    tmp_path: Path, photos: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results"
    assert classify(photos, output, models) == 0
    capsys.readouterr()
    refused(capsys, classify(photos, output, models, "--top-k", "1"), "was begun with top_k 3, not 1")
    refused(capsys, classify(photos / "red", output, models), f"is a job of {photos}, not of {photos}/red")
    (photos / "new.png").write_bytes(image())
    refused(capsys, classify(photos, output, models), "(16 then, 17 now)")
    (photos / "new.png").unlink()
    os.utime(photos / "red" / "0.png", ns=(1, 1))
    refused(capsys, classify(photos, output, models), "(some have changed)")
    publish(models, 2, labels=ROTATED)
    refused(capsys, classify(photos, output, models), "was begun with colours/1, and colours/2 is another model")


def test_only_one_process_works_on_a_job(
    tmp_path: Path, photos: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from service.classify import job, sources

    bundle = repository.find(models, "colours")
    options = job.Options(3, 1000, 1.0)
    source = sources.find(str(photos))
    with job.opened(tmp_path / "results", source, bundle, options, workers=1, largest_part=64):
        refused(capsys, classify(photos, tmp_path / "results", models), "another process works on")


def test_a_job_that_ended_while_it_listed_begins_anew(tmp_path: Path, photos: Path, models: Path) -> None:
    left = tmp_path / "results" / ".job"
    (left / "parts").mkdir(parents=True)
    (left / "names").write_bytes(b"1:half")
    assert classify(photos, tmp_path / "results", models) == 0
    assert len(rows(tmp_path / "results")) == 16


def test_a_part_that_is_not_whole_is_made_again(tmp_path: Path, models: Path) -> None:
    from service.classify import job, sources

    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(200):
        (folder / f"{number}.png").write_bytes(image(COLOURS[number % 3]))
    bundle, options = repository.find(models, "colours"), job.Options(3, 50_000_000, 10.0)
    source = sources.find(str(folder))
    with job.opened(tmp_path / "results", source, bundle, options, workers=1, largest_part=64) as opened:
        assert opened.state.parts == 5 - (opened.state.part_size > 40)
        assert opened.pending() == list(range(opened.state.parts))
        opened.part(0).write_bytes(b"PAR1 and no more")
        (opened.part(0).parent / ".000001.parquet.77").write_bytes(b"a draft")
    assert classify(folder, tmp_path / "results", models) == 0
    assert len(rows(tmp_path / "results")) == 200


@pytest.mark.parametrize(
    ("where", "words", "says"),
    [
        ("absent", (), "there is nothing at"),
        ("photos/red/0.png", (), "neither a folder nor a manifest"),
        ("photos/none", (), "holds no images"),
        ("photos", ("--top-k", "0"), "--top-k is 0; it must be 1 or more"),
        ("photos", ("--workers", "0"), "--workers is 0; it must be 1 or more"),
        ("photos", ("--model", "absent"), "there is no model 'absent'"),
        ("photos", ("--output", "s3://bucket/results"), "is an address: results are written to a folder"),
        ("photos", ("--output", "photos"), "is not empty and holds no job"),
        ("photos", ("--output", "photos/notes.txt"), "is not a folder"),
        ("photos/list.csv", (), "has no column of images"),
        ("nothing://there", (), "nothing://there cannot be used"),
    ],
)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path,
    photos: Path,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    where: str,
    words: tuple[str, ...],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (photos / "none").mkdir()
    (photos / "list.csv").write_text("a,b\n1,2\n")
    refused(capsys, classify(where, Path("results"), models, *words), says)
    assert not Path("results").exists()
