from __future__ import annotations

import io
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.images import class_folder, image
from tests.support.server import ROOT, command
from training.data.problems import KINDS, Problem
from training.data.split import Split
from training.export import contact_sheet


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images with every sort of fault that leaves something to inspect."""
    root = class_folder(tmp_path / "colours")
    red = root / "train" / "red"
    (root / "test" / "red" / "copy.png").write_bytes((red / "0.png").read_bytes())
    (red / "broken.jpg").write_bytes(image("red", (64, 64), "JPEG")[:640])
    (red / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    (root / "train" / "grey").mkdir()
    for number in range(8):
        (root / "train" / "blue" / f"{number}.png").unlink()
    return root


def inspect(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    words = ("inspect", *map(str, words))
    return subprocess.run(command(*map(str, words)), capture_output=True, text=True, check=False, timeout=120, cwd=cwd)


def test_json_has_classes_splits_and_problems(folder: Path, tmp_path: Path) -> None:
    done = inspect(folder, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"classes", "splits", "problems"}
    assert found["classes"] == ["blue", "green", "red"]
    assert found["splits"] == {"train": 28, "validation": 0, "test": 13}
    assert all(set(problem) == {"kind", "message", "files"} for problem in found["problems"])
    files = {problem["kind"]: problem["files"] for problem in found["problems"]}
    assert files["duplicates_across_splits"] == ["train/red/0.png", "test/red/copy.png"]
    assert files["empty_class"] == ["train/grey"]
    assert files["imbalance"] == ["green", "blue"]
    unreadable = [problem for problem in found["problems"] if problem["kind"] == "unreadable"]
    assert {name for problem in unreadable for name in problem["files"]} == {
        "train/red/broken.jpg",
        "train/red/phone.heic",
    }
    assert any("convert it to JPEG" in problem["message"] for problem in unreadable)
    assert list(tmp_path.rglob("*sheet*")) == []


def test_text_names_all_of_it_and_a_contact_sheet_is_drawn(folder: Path, tmp_path: Path) -> None:
    done = inspect(folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 classes; images: 28 train, 13 test" in done.stdout
    assert "41 PNG; width x height 16x16" in done.stdout
    for word in (
        "blue",
        "green",
        "red",
        "train/red/broken.jpg",
        "train/red/phone.heic",
        "train/grey",
        "copy.png",
        "uneven",
    ):
        assert word in done.stdout
    (sheet,) = re.findall(r"contact sheet: (\S+)", done.stdout)
    drawn = np.asarray(Image.open(tmp_path / sheet).convert("RGB"), int)
    for channel in range(3):  # a row a colour
        others = drawn.sum(-1) - drawn[..., channel]
        assert ((drawn[..., channel] > 190) & (others < 120)).sum() > 1000


def test_a_sheet_does_not_become_one_of_the_images(folder: Path, tmp_path: Path) -> None:
    done = inspect(".", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "no contact sheet" in done.stdout
    asked = inspect(".", "--sheet", folder / "train" / "sheet.png", cwd=folder)
    assert asked.returncode == 2
    assert "among the images" in asked.stderr
    assert list(folder.rglob("*sheet*")) == []
    assert inspect(folder, "--json", "--sheet", tmp_path / "s.png", cwd=tmp_path).returncode == 0
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_trained_with_can_be_inspected(tmp_path: Path) -> None:
    (tmp_path / "one" / "cat").mkdir(parents=True)
    (tmp_path / "one" / "cat" / "1.png").write_bytes(image("red"))
    found = json.loads(inspect("one", "--json", cwd=tmp_path).stdout)
    assert found["classes"] == ["cat"]
    assert {problem["kind"] for problem in found["problems"]} == {"one_class", "few_images"}


def test_what_can_be_read_in_two_ways_is_one_line(tmp_path: Path) -> None:
    for name in ("a/cat", "a/dog", "b/cat", "b/dog"):
        (tmp_path / "twice" / name).mkdir(parents=True)
        (tmp_path / "twice" / name / "1.png").write_bytes(image("red"))
    done = inspect("twice", "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("kernelscope inspect: twice: a/ and b/ hold folders of the same names (cat, dog)")
    assert done.stderr.count("\n") == 1


def test_the_kinds_of_problems_are_documented() -> None:
    _, page = (ROOT / "docs" / "train.md").read_text().split("## `kernelscope inspect --json`")
    assert dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", page, re.M)) == KINDS
    with pytest.raises(ValueError, match="no kind"):
        Problem("odd", "something")


def test_many_classes_of_long_names_are_drawn() -> None:
    labels = tuple(f"{'a very long name of a class ' * 8}{number}" for number in range(60))
    split = Split(np.zeros((60, 8, 8, 3), np.uint8), np.arange(60))
    drawn = Image.open(io.BytesIO(contact_sheet.draw(labels, {"train": split})))
    assert drawn.width < 1500
    assert drawn.height < 4000
