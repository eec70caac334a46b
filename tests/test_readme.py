"""What README.md shows is what happens."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable

from contract import bundle
from tests.support.server import ROOT, SHIPPED, Server, command

README = (ROOT / "README.md").read_text(encoding="utf-8")


def shown(prompt: str) -> tuple[str, str]:
    """The command after `$ ` that begins with `prompt`, and what the README shows below it."""
    match = re.search(rf"^\$ ({re.escape(prompt)}.*)\n((?:.+\n)+?)```", README, re.MULTILINE)
    assert match, prompt
    return match[1], match[2].rstrip("\n")


def test_the_curl_reply(serve: Callable[..., Server]) -> None:
    said, reply = shown("curl")
    server = serve()
    words = shlex.split(said.replace("localhost:8000", server.url))
    answer = subprocess.run(["curl", "-s", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    ours, theirs = json.loads(reply), json.loads(answer)
    assert ours["label"] == theirs["label"] == "cat"
    assert [entry["label"] for entry in ours["top"]] == [entry["label"] for entry in theirs["top"]]
    # other processors round differently in the last places
    assert abs(ours["probability"] - theirs["probability"]) < 1e-3


def test_the_table_of_predictions() -> None:
    said, lines = shown("kernelscope predict")
    done = subprocess.run(
        command(*shlex.split(said)[1:]), cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    first = lines.splitlines()[:-1]
    assert [line.split("  ")[:2] for line in first] == [line.split("  ")[:2] for line in done[: len(first)]]


def test_the_shipped_model_is_as_good_as_it_says() -> None:
    card = bundle.read(SHIPPED).card
    assert card.accuracy.images == 10_000
    assert card.accuracy.split == "test"
    assert card.accuracy.accuracy
    assert card.accuracy.accuracy >= 0.905
    assert f"**{card.accuracy.accuracy * 100:.2f} %**" in README


def test_every_file_it_points_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
