"""The audit fails where something was not looked up, and names it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import ROOT

PACKAGE = {"name": "left-pad", "version": "1.0", "vulns": []}
VULNERABLE = {**PACKAGE, "vulns": [{"id": "CVE-1", "fix_versions": ["1.1"]}]}
SKIPPED = {"name": "left-pad", "skip_reason": "Dependency not found"}


def program(folder: Path, name: str, output: str, code: int) -> None:
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport sys\nprint({output!r})\nsys.exit({code})\n")
    path.chmod(0o755)


def audit(folder: Path, dependency: dict[str, Any] | None, licence: str) -> subprocess.CompletedProcess[str]:
    """Run the audit beside programs that answer as pip-audit and pip-licenses do."""
    output = "" if dependency is None else json.dumps({"dependencies": [dependency]})
    program(folder, "pip-audit", output, 0 if dependency is PACKAGE else 1)
    program(folder, "pip-licenses", json.dumps([{"Name": "left-pad", "Version": "1.0", "License": licence}]), 0)
    return subprocess.run(
        [sys.executable, str(ROOT / "deploy" / "audit.py"), sys.executable],
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("dependency", "licence", "says"),
    [
        (VULNERABLE, "MIT License", "CVE-1, mended by 1.1"),
        (SKIPPED, "MIT License", "left-pad was NOT AUDITED: Dependency not found"),
        (None, "MIT License", "was NOT AUDITED"),
        (PACKAGE, "GPL-3.0-only", "not in the list"),
    ],
)
def test_it_fails_and_says_why(tmp_path: Path, dependency: dict[str, Any] | None, licence: str, says: str) -> None:
    done = audit(tmp_path, dependency, licence)
    assert done.returncode == 1
    assert says in done.stdout


def test_it_passes_where_all_was_looked_up(tmp_path: Path) -> None:
    done = audit(tmp_path, PACKAGE, "MIT License")
    assert (done.returncode, done.stderr) == (0, "")
    assert "every pinned package was looked up" in done.stdout
