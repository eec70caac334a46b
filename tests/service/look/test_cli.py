"""`kernelscope look` from the shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.images import image
from tests.support.server import ROOT, command


def look(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command("look", *words), cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def red(tmp_path: Path) -> Path:
    (tmp_path / "red.png").write_bytes(image("red"))
    return tmp_path


def test_a_file_is_written(red: Path, colours: Path) -> None:
    done = look("red.png", "--models", str(colours), folder=red)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("look.html: ")
    assert '<meta http-equiv="Content-Security-Policy"' in (red / "look.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in red.iterdir()) == ["look.html", "red.png"]


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["none.png"], "there is no file 'none.png'", 2),
        (["broken.png"], "the image is empty", 1),
        (["red.png", "-o", "none/look.html"], "none/look.html cannot be written: give a file in a folder that", 2),
        (["red.png", "-o", "."], ". cannot be written", 2),
        (["red.png", "--model", "none"], "there is no model 'none'", 1),
        (["red.png", "--version", "9"], "model 'colours' has no version 9", 1),
    ],
)
def test_a_mistake_is_told_in_one_line(red: Path, colours: Path, words: list[str], message: str, code: int) -> None:
    (red / "broken.png").touch()
    done = look(*words, "--models", str(colours), folder=red)
    assert done.stderr.startswith(f"kernelscope look: {message}"), done.stderr
    assert done.stderr.count("\n") == 1
    assert done.returncode == code
    assert not (red / "look.html").exists()


def test_the_shipped_model_is_looked_into(tmp_path: Path) -> None:
    cat = ROOT / "examples" / "images" / "cat.png"
    done = look(str(cat), "-o", "cat.html", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "cat.html").stat().st_size < 8_000_000
