"""The examples for clients, each where its runtime is there; and the types for TypeScript."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.scripted import Reply, error, scripted
from tests.support.server import ROOT, Server

CLIENTS = ROOT / "examples" / "clients"
TYPESCRIPT = ROOT / "examples" / "typescript"
CAT = ROOT / "examples" / "cat.jpg"


def has(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def run(words: Sequence[str | Path], **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(words, capture_output=True, text=True, env=variables, check=False, timeout=200)


Command = Callable[[Path, str], list[str]]


@pytest.fixture(scope="module")
def locked(serve: Callable[..., Server]) -> Server:
    return serve(KERNELSCOPE_API_KEYS="secret")


@pytest.fixture(scope="module", params=["sh", "py", "mjs", "go"])
def example(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path, str], list[str]]:
    """The command that classifies an image by a service, in one of the languages."""
    if request.param == "sh":
        has("curl")
        return lambda path, url: [str(CLIENTS / "predict.sh"), str(path), url]
    if request.param == "py":
        return lambda path, url: [sys.executable, str(CLIENTS / "predict.py"), url, str(path)]
    if request.param == "mjs":
        has("node")
        return lambda path, url: ["node", str(CLIENTS / "predict.mjs"), str(path), url]
    has("go")
    program = tmp_path_factory.mktemp("go") / "predict"
    built = run(["go", "build", "-o", program, CLIENTS / "predict.go"], GO111MODULE="off", GOFLAGS="")
    assert built.returncode == 0, built.stderr
    checked = run(["go", "vet", CLIENTS / "predict.go"], GO111MODULE="off", GOFLAGS="")
    assert checked.returncode == 0, checked.stderr
    return lambda path, url: [str(program), str(path), url]


def test_it_classifies(example: Command, locked: Server) -> None:
    done = run(example(CAT, locked.url), KERNELSCOPE_API_KEY="secret")
    assert done.returncode == 0, done.stderr
    assert "cat" in done.stdout.removeprefix(str(CAT))
    assert "0.99" in done.stdout


def test_it_says_what_was_wrong(example: Command, locked: Server) -> None:
    done = run(example(CAT, locked.url), KERNELSCOPE_API_KEY="other")
    assert done.returncode != 0
    assert "a key is needed" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_it_asks_again_after_retry_after(example: Command) -> None:
    command = example(CAT, "")
    answer = {
        "model": "pets", "version": 1, "label": "cat", "index": 0, "probability": 0.98, "unsure": False,
        "top": [{"label": "cat", "index": 0, "probability": 0.98}],
    }  # fmt: skip
    body: object = {"model": "pets", "version": 1, "predictions": [answer]} if "predict.py" in command[1] else answer
    with scripted([error(503, "overloaded", Retry_After="1"), Reply(200, body)]) as server:
        done = run(example(CAT, server.url))
        assert len(server.requests) == 2
    assert done.returncode == 0, done.stderr
    assert "cat" in done.stdout


@pytest.fixture(scope="module")
def node_modules() -> None:
    has("node")
    if not (TYPESCRIPT / "node_modules" / ".bin" / "openapi-typescript").exists():
        pytest.skip("openapi-typescript is not installed: npm ci in examples/typescript")


@pytest.mark.usefixtures("node_modules")
def test_the_types_are_current() -> None:
    done = run([sys.executable, TYPESCRIPT / "generate.py", "--check"])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("node_modules")
def test_the_example_in_typescript_fits_the_types() -> None:
    done = run([TYPESCRIPT / "node_modules" / ".bin" / "tsc", "--version"])
    assert done.returncode == 0
    checked = subprocess.run(
        ["npm", "run", "--silent", "check"], cwd=TYPESCRIPT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
