"""Kernelscope itself on Ray Serve, on a cluster of this machine alone: `python on_ray.py PORT REPLICAS`."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "ray" / "serve.py"
PORT, REPLICAS = sys.argv[1:]

if __name__ == "__main__":
    models = os.environ["BENCH_MODELS"]
    sys.argv = [
        *(str(DEPLOY), "--address", "local", "--port", PORT, "--models", models),
        *("--min-replicas", REPLICAS, "--max-replicas", REPLICAS, "--target-requests", "64"),
    ]
    try:
        runpy.run_path(str(DEPLOY), run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
