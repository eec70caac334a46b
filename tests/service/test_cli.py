from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.images import image
from tests.support.models import colour_bundle, damaged_bundle
from tests.support.server import ROOT, command


def kernelscope(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), capture_output=True, text=True, check=False, timeout=120, **options)  # type: ignore[call-overload, no-any-return]


def test_predict_as_json_lines(colours: Path, tmp_path: Path) -> None:
    for colour in ("red", "blue"):
        (tmp_path / f"{colour}.png").write_bytes(image(colour))
    (tmp_path / "notes.txt").write_text("not an image, and not named like one")
    done = kernelscope("predict", str(tmp_path), "--models", str(colours), "--json")
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert {Path(answer["file"]).stem: answer["label"] for answer in answers} == {"blue": "blue", "red": "red"}


def test_predict_tells_images_in_a_folder_by_content(colours: Path, tmp_path: Path) -> None:
    for name in ("a.jpg?w=640", "b", "c.jfif"):
        (tmp_path / name).write_bytes(image("red", kind="JPEG"))
    for name in ("._a.jpg", ".b.jpg", "@eaDir/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(image("red", kind="JPEG"))
    (tmp_path / "d.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    done = kernelscope("predict", str(tmp_path), "--models", str(colours), "--json")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(answer["file"]).name for answer in answers] == ["a.jpg?w=640", "b", "c.jfif", "d.heic"]
    assert [answer.get("label") for answer in answers] == ["red", "red", "red", None]
    assert "convert it to JPEG" in answers[3]["error"]
    assert done.returncode == 1


def test_predict_says_what_it_is_unsure_of(tmp_path: Path) -> None:
    colour_bundle(tmp_path / "models", unsure_below=1.0)
    (tmp_path / "red.png").write_bytes(image("red"))
    words = ("predict", str(tmp_path / "red.png"), "--models", str(tmp_path / "models"))
    assert json.loads(kernelscope(*words, "--json").stdout)["unsure"] is True
    assert ", unsure" in kernelscope(*words).stdout


def test_predict_prints_names_of_any_bytes(colours: Path, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(image("red"))
    done = kernelscope(
        "predict", str(tmp_path), "--models", str(colours), env={**os.environ, "PYTHONIOENCODING": "utf-8"}
    )
    assert done.returncode == 0, done.stderr
    assert "\\udcff.png  red" in done.stdout


def test_predict_refuses_a_model_whose_answers_are_no_numbers(tmp_path: Path) -> None:
    damaged_bundle(tmp_path / "models")
    (tmp_path / "red.png").write_bytes(image("red"))
    done = kernelscope("predict", str(tmp_path / "red.png"), "--models", str(tmp_path / "models"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "not one probability a label" in done.stderr


def test_predict_globs_and_tables(colours: Path, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "down"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(image("green", kind="JPEG"))
    done = kernelscope("predict", str(tmp_path / "**" / "*.jpg"), "--models", str(colours))
    assert done.returncode == 0, done.stderr
    assert "a.jpg  green" in done.stdout


def test_names_are_printed_as_they_are_and_once(colours: Path, tmp_path: Path) -> None:
    folder = tmp_path / "q["
    folder.mkdir()
    (folder / "b].png").write_bytes(image("red"))
    (tmp_path / "img[red].png").write_bytes(image("red"))
    done = kernelscope("predict", str(tmp_path), str(tmp_path), "--models", str(colours))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert "img[red].png" in done.stdout
    assert "q[/b].png" in done.stdout


def test_predict_names_what_it_cannot_read_and_goes_on(colours: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"broken")
    (tmp_path / "b.png").write_bytes(image("red"))
    done = kernelscope("predict", str(tmp_path), "--models", str(colours), "--json")
    assert done.returncode == 1
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert "not an image" in first["error"]
    assert second["label"] == "red"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["predict", "absent.jpg"], 2, "there is no file 'absent.jpg'"),
        (["predict", "README.md", "--models", "absent"], 1, "absent cannot be listed"),
        (["predict", "README.md", "--model", "shapes"], 1, "models there: cifar10"),
        (["predict", "README.md", "--top-k", "0"], 2, "--top-k is 0"),
        (["predict", "tests"], 2, "holds no images"),
        (["serve", "--models", "tests"], 1, "holds no model"),
        (["serve", "--port", "nine"], 2, "KERNELSCOPE_PORT or --port is 'nine'"),
        (["serve", "--versions", "7"], 1, "has no version 7 (versions there: 2, 3)"),
        (["predict", ""], 2, "neither a file nor a folder"),
        (["predict", "x" * 300], 1, "name too long"),
        (["predict", "/dev/null"], 2, "neither a file nor a folder"),
        (["serve", "--model", "shapes"], 2, "models there: cifar10"),
        (["serve", "--providers", "tensorrt"], 2, "not in the onnxruntime that is installed (it has cpu"),
        (["serve", "--host", "192.0.2.1"], 2, "cannot listen on 192.0.2.1"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], code: int, says: str) -> None:
    done = kernelscope(*words, cwd=ROOT)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_said_so(colours: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = kernelscope("serve", "--models", str(colours), "--port", port)
    assert done.returncode == 2
    assert f"port {port} is taken" in done.stderr


def test_a_broken_bundle_is_said_so_and_nothing_listens(tmp_path: Path) -> None:
    colour_bundle(tmp_path).model.write_bytes(b"junk")
    done = kernelscope("serve", "--models", str(tmp_path), "--port", "0")
    assert done.returncode == 1
    assert "does not load" in done.stderr
    assert "Traceback" not in done.stderr
