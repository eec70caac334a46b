"""How many images a second a machine answers, and how long they take as it nears that: `python -m benchmarks.sizing`.

Needs wrk (Debian: wrk). The load generator runs on the same cores, and what it takes is told. Takes about four minutes.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import tempfile
import time

import numpy as np
import uvloop
from PIL import Image

from benchmarks.limits import HERE, IMAGE, PORT, Load, cpu, offer, percentile, processes, proportional, serving

SHARES = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Of what it answers at most: the loads that are offered."""


def photograph(width: int, height: int) -> bytes:
    """A JPEG with about as much detail as a photograph has."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noisy = np.clip(smooth + rng.integers(-8, 9, smooth.shape), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(noisy).save(out, "JPEG", quality=85)
    return out.getvalue()


def capacity(image: bytes, seconds: float, connections: int = 64) -> tuple[float, float]:
    """Answers a second at most, and their 99th percentile in milliseconds, as wrk has them."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(image)
        file.flush()
        url = f"http://127.0.0.1:{PORT}/predict"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", str(HERE / "load.lua"), url]
        environment = {**os.environ, "BENCH_BODY": file.name, "BENCH_TYPE": "image/jpeg"}
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    report = json.loads(said[said.index("{") : said.index("}") + 1])
    if report["errors"]:
        raise SystemExit(f"{report['errors']} of {report['requests']} requests failed")
    return report["requests"] / report["seconds"], report["p99"]


def curve(workers: int, seconds: float, flags: list[str]) -> None:
    """Latency against load, for one number of processes."""
    with serving("--workers", str(workers), *flags) as server:
        pids = processes(server)
        capacity(IMAGE, 2)
        peak, _ = capacity(IMAGE, seconds)
        print(f"\nworkers {workers}: {peak:.0f} answers/s at most (wrk, 64 connections)")
        print("| offered, of the most | answers/s | p50 ms | p99 ms | rejected | service's cores | load's cores | MB |")
        print("|---|---|---|---|---|---|---|---|")
        for share in SHARES:
            load = Load(share * peak, seconds)
            before, own, begin = cpu(pids), time.process_time(), time.perf_counter()
            uvloop.run(offer(load, 64))
            took = time.perf_counter() - begin
            total = len(load.taken) + len(load.refused)
            print(
                f"| {share:.0%} | {len(load.taken) / seconds:.0f} | {percentile(load.taken, 0.5) * 1e3:.2f} "
                f"| {percentile(load.taken, 0.99) * 1e3:.1f} | {len(load.refused) / max(1, total):.1%} "
                f"| {(cpu(pids) - before) / took:.2f} | {(time.process_time() - own) / took:.2f} "
                f"| {proportional(pids) / 1e6:.0f} |",
                flush=True,
            )
            if load.other:
                print(f"(other: {dict(load.other)})")


def by_image(seconds: float, flags: list[str]) -> None:
    """Capacity by the size of what is sent, with the default number of processes."""
    print("\n| image | kB | answers/s | p99 ms |")
    print("|---|---|---|---|")
    with serving(*flags) as server:
        pids = processes(server)
        for width, height in ((32, 32), (224, 224), (640, 480), (1920, 1080), (4000, 3000)):
            image = photograph(width, height)
            rate, p99 = capacity(image, seconds, 8)
            print(f"| JPEG, {width}×{height} | {len(image) / 1e3:.0f} | {rate:.0f} | {p99:.0f} |", flush=True)
        print(f"memory at the end: {proportional(pids) / 1e6:.0f} MB, shared pages counted once")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("flags", nargs="*", help="flags of `kernelscope serve`, after --")
    chosen = parser.parse_args()
    for workers in chosen.workers:
        curve(workers, chosen.seconds, chosen.flags)
    by_image(chosen.seconds, chosen.flags)


if __name__ == "__main__":
    main()
