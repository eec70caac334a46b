"""What serves runs in an environment from which the rest was taken out; `make image` tries the whole of it."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from tests.support.server import ROOT, SHIPPED

SLIM: dict[str, Any] = runpy.run_path(str(ROOT / "deploy" / "slim.py"))


def test_a_library_without_its_tables_still_loads(tmp_path: Path) -> None:
    """NumPy and onnxruntime, with the libraries that auditwheel has patched, in a process that sees nothing else."""
    packages = tmp_path / "lib" / "python3" / "site-packages"
    for module in (np, onnxruntime):
        source = Path(str(module.__file__)).parent
        shutil.copytree(source, packages / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        libraries = source.with_name(f"{source.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, packages / libraries.name)
    for name in ("flatbuffers", "google", "packaging"):
        found = Path(np.__file__).parent.parent / name
        if found.is_dir():
            shutil.copytree(found, packages / name)
    slim: Callable[[Path], int] = SLIM["slim"]
    assert slim(packages) > 40e6
    assert slim(packages) == 0
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import numpy, numpy.testing, numpy.random, onnxruntime\n"
        "assert numpy.__file__.startswith(sys.argv[1])\n"
        "session = onnxruntime.InferenceSession(sys.argv[2])\n"
        "grey = numpy.full((1, 32, 32, 3), 127, numpy.uint8)\n"
        "print(session.run(['probabilities'], {'images': grey})[0].sum(), (numpy.eye(3) @ numpy.ones(3)).sum())\n"
    )
    words = [sys.executable, "-S", "-I", "-c", script, str(packages), str(SHIPPED / "model.onnx")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    total, product = map(float, done.stdout.split())
    assert abs(total - 1) < 1e-4
    assert product == 3


def test_what_is_no_library_is_left_as_it_is() -> None:
    stripped: Callable[[bytes], bytes] = SLIM["stripped"]
    assert stripped(b"INPUT(-lm)") == b"INPUT(-lm)"
