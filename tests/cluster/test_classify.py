"""`kernelscope classify --ray` on two nodes: every image once, whatever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.images import image
from tests.support.models import COLOURS, colour_bundle, slow_bundle
from tests.support.server import ROOT
from tests.support.two_nodes import TwoNodes
from tests.support.waiting import eventually

pytest.importorskip("ray", reason="Ray is not installed: make test-cluster brings it")

IMAGES = 512


def lay_out(folder: Path) -> None:
    folder.mkdir()
    encoded = {colour: image(colour) for colour in COLOURS}
    for number in range(IMAGES):
        (folder / f"{number}-{COLOURS[number % 3]}.png").write_bytes(encoded[COLOURS[number % 3]])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_bytes(b"text")


def start(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable, "-m", "kernelscope", "classify", str(tmp_path / "images"),
            "--output", str(tmp_path / "results"), "--models", str(tmp_path / "models"), "--ray", *words,
        ],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def parts(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "results" / ".job" / "parts").glob("[0-9]*.parquet"))


def check(tmp_path: Path) -> None:
    rows = pq.read_table(tmp_path / "results" / "predictions.parquet").to_pylist()
    by_name = {row["file"]: row for row in rows}
    assert len(rows) == len(by_name) == IMAGES + 2
    assert by_name.pop("empty.png")["code"] == "empty"
    assert by_name.pop("text.jpg")["code"] == "unsupported_image"
    assert all(name.removesuffix(".png").endswith(f"-{row['label']}") for name, row in by_name.items())


def test_a_node_dies_in_a_job(nodes: TwoNodes, tmp_path: Path) -> None:
    lay_out(tmp_path / "images")
    slow_bundle(tmp_path / "models", "colours", seconds=0.5)
    process = start(tmp_path, nodes.address)
    eventually(lambda: parts(tmp_path) or process.poll() is not None, seconds=120)
    nodes.kill()
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    check(tmp_path)


def test_a_job_that_is_killed_goes_on(nodes: TwoNodes, tmp_path: Path) -> None:
    lay_out(tmp_path / "images")
    slow_bundle(tmp_path / "models", "colours", seconds=0.5)
    process = start(tmp_path, nodes.address)
    eventually(lambda: parts(tmp_path) or process.poll() is not None, seconds=120)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = {path: path.stat().st_ino for path in parts(tmp_path)}
    assert done
    process = start(tmp_path, nodes.address)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert "goes on: " in errors
    check(tmp_path)


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    lay_out(tmp_path / "images")
    colour_bundle(tmp_path / "models")
    process = start(tmp_path, "127.0.0.1:9")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.startswith("kernelscope classify: there is no Ray cluster at '127.0.0.1:9'")
    assert errors.count("\n") == 1, errors
