"""What needs another backend than the rest of the tests: in a process of its own, on JAX with two virtual devices."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.server import ROOT


@pytest.mark.parametrize("tests", ["tests/training/on_jax", "tests/training/data/test_augment_on_device.py"])
def test_on_jax(tests: str) -> None:
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
