from __future__ import annotations

import subprocess

import pytest

from kernelscope import cli
from tests.support.server import ROOT, command


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_lists_every_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in cli.COMMANDS)
    assert run().returncode == 2


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help_with_examples(name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0, done.stderr
    assert "examples:" in done.stdout


def test_an_unknown_command_is_one_line() -> None:
    done = run("sreve")
    assert done.returncode == 2
    names = ", ".join(cli.COMMANDS)
    assert done.stderr == f"kernelscope: there is no command 'sreve': use one of {names}\n"


def test_version() -> None:
    assert run("--version").stdout == "kernelscope 0.1.0\n"


def test_a_reader_that_leaves_is_no_mistake() -> None:
    words = " ".join(command("predict", *(["examples/images"] * 40), "--json"))
    shell = ["bash", "-c", f"set -o pipefail; {words} | head -1"]
    done = subprocess.run(shell, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
