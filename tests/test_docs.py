"""Every block of Python and every command in README and docs: run, parsed, or named here with the reason."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.server import ROOT, Server, command
from training import parsers
from training.importing import cli as importing

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PARSERS = {
    "train": parsers.train,
    "evaluate": parsers.evaluate,
    "compare": parsers.compare,
    "quantize": parsers.quantize,
    "interpolate": parsers.interpolate,
    "inspect": parsers.inspect,
    "import": importing.parser,
}
NOT_RUN = {
    r"uv tool install |pipx install |pip install ": "installs something",
    r"kernelscope serve": "serves until it is told to end; tests/service starts it with many flags",
    r"\. \.venv/bin/activate": "changes a shell",
    r"git clone ": "needs the network",
    r"python -m benchmarks\.gpu ": "tests/test_gpu_benchmark.py runs it",
    r"python -m benchmarks\.serving ": "needs wrk, and the packages of other servers",
    r"python deploy/ray/serve\.py ": "tests/cluster runs it",
    r"kernelscope (dream|look|classify|push|pull) ": "tests of these commands run them",
}
"""Commands that are not run here, and why."""


def blocks(language: str) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for kind, content in FENCE.findall(page.read_text(encoding="utf-8")):
            if kind == language:
                yield page.name, content


def commands() -> list[tuple[str, str]]:
    """Each command of the blocks without a language: lines that begin with a program's name, `$ ` before it or not."""
    found = []
    for page, content in blocks(""):
        joined = re.sub(r"\\\n\s*", " ", content)
        for line in joined.splitlines():
            words = line.removeprefix("$ ").split("  #")[0].strip()
            if re.match(r"(KERNELSCOPE_\w+=\S+ )*(make|kernelscope|curl|docker|pip|pipx|uv|git|pytest|python) ", words):
                found.append((page, words))
    return found


@pytest.fixture(scope="module")
def served(serve: Callable[..., Server]) -> Server:
    return serve(KERNELSCOPE_ADMIN_KEY="secret")


@pytest.mark.parametrize(("page", "code"), list(blocks("python")), ids=lambda value: value[:40])
def test_every_block_of_python_runs(served: Server, page: str, code: str) -> None:
    code = code.replace("localhost:8000", served.url.removeprefix("http://"))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{page}: {done.stderr}"


@pytest.mark.parametrize(("page", "line"), commands(), ids=lambda value: value[:60])
def test_every_command_is_right(served: Server, tmp_path: Path, page: str, line: str) -> None:
    line = re.sub(r"^(KERNELSCOPE_\w+=\S+ )+", "", line)
    words = shlex.split(line)
    if any(re.match(pattern, line) for pattern in NOT_RUN):
        return
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert [word for word in words[1:] if "=" not in word and word not in targets] == [], page
    elif words[0] == "docker":
        check_docker(words)
    elif words[0] == "curl":
        text = line.replace("http://localhost:8000", served.url).replace("localhost:8000", served.url)
        done = subprocess.run(
            ["bash", "-c", text.replace("curl ", "curl -s --fail-with-body ", 1)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin", "KERNELSCOPE_ADMIN_KEY": "secret"},
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    elif words[0] == "pytest":
        assert all((ROOT / word).exists() for word in words[1:] if not word.startswith("-")), page
    elif words[0] == "kernelscope" and words[1] in PARSERS:
        PARSERS[words[1]]().parse_args(words[2:])
    elif words[0] == "kernelscope":
        done = subprocess.run(command(*words[1:]), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
    else:
        pytest.fail(f"{page}: nothing here knows how to try {line!r}: add it to NOT_RUN with the reason")


def check_docker(words: list[str]) -> None:
    """No container engine runs here: the services and the build's targets that a command names must be there."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    stages = re.findall(r" AS (\S+)", (ROOT / "Dockerfile").read_text())
    if words[1] == "compose" and "run" in words:
        assert next(word for word in words[words.index("run") + 1 :] if not word.startswith("-")) in compose["services"]
    if "--profile" in words:
        profile = words[words.index("--profile") + 1]
        assert any(profile in service.get("profiles", ()) for service in compose["services"].values())
    if "--target" in words:
        assert words[words.index("--target") + 1] in stages
