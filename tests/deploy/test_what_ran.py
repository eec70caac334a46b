"""The table in docs/deploy.md says of everything in deploy/ whether it ran, and where."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.server import ROOT

TABLE = (ROOT / "docs" / "deploy.md").read_text().split("## What ran where")[1]


def listed() -> set[Path]:
    """The paths in the first column; behind the first of a row, names in the same folder will do."""
    found = set()
    for row in re.findall(r"^\| (.*?) \|", TABLE, re.MULTILINE):
        first: Path | None = None
        for name in re.findall(r"`([^`]+)`", row):
            sibling = first.parent / name if first else ROOT / name
            path = sibling if sibling.exists() else ROOT / name
            assert path.exists(), f"{name} is not there"
            first = first or path
            found.add(path)
    return found


def test_everything_in_deploy_is_in_the_table() -> None:
    there = listed()
    missing = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "deploy").rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and not {path, *path.parents} & there
    ]
    assert missing == []
    assert {ROOT / "Dockerfile", ROOT / "docker-compose.yml"} <= there
