"""Keras on JAX, with two devices: `tests/training/test_on_jax.py` runs these tests in a process of its own."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("KERAS_BACKEND") == "jax" else ["test_*.py"]
