"""The wheel, outside the checkout, predicts, serves its page, and trains."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.images import class_folder
from tests.support.server import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel was installed into, with nothing else."""
    work = tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.rstrip("\0").split("\0"):
        target = work / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():  # not one that is about to be removed
            shutil.copy(ROOT / name, target)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build: list[str | Path] = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", work, work / "source"]
    subprocess.run(build, capture_output=True, check=True)
    (wheel,) = work.glob("*.whl")
    install: list[str | Path] = [*pip, "install", "--no-deps", "--target", work / "installed", wheel]
    subprocess.run(install, capture_output=True, check=True)
    return work / "installed"


def run(installed: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command from the wheel, in a folder where no checkout is in reach."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "KERNELSCOPE_CACHE": str(installed.parent / "cache")}
    return subprocess.run(
        [sys.executable, "-P", "-m", "kernelscope", *words],
        cwd=installed.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_is_the_wheels_code_that_runs(installed: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-c",
            "import kernelscope, service, contract; print(kernelscope.__file__, service.__file__)",
        ],
        cwd=installed.parent,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count(str(installed)) == 2


def test_it_predicts(installed: Path) -> None:
    done = run(installed, "predict", ROOT / "examples" / "cat.jpg", "--json")
    assert done.returncode == 0, done.stderr
    assert '"label": "cat"' in done.stdout


def test_it_has_the_page(installed: Path) -> None:
    web = installed / "service" / "web"
    assert {path.relative_to(web) for path in web.rglob("*") if path.is_file()} == {
        path.relative_to(ROOT / "service" / "web") for path in (ROOT / "service" / "web").rglob("*") if path.is_file()
    }


def test_it_trains_and_serves_what_it_trained(installed: Path, tmp_path: Path) -> None:
    class_folder(tmp_path / "colours")
    words = ("--recipe", "seed", "--epochs", "1", "--batch-size", "16", "--run", tmp_path / "run")
    done = run(installed, "train", "--data", tmp_path / "colours", "--output", tmp_path / "out", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    some = next((tmp_path / "colours" / "test").rglob("*.png"))
    answered = run(installed, "predict", some, "--models", tmp_path / "out", "--json")
    assert answered.returncode == 0, answered.stderr
