"""`make bench-serving`: this server beside others, on the same model and image, with the same load generator.

Each server is started in turn, and the turn is taken several times, so that a machine that slows slows all of them.
Ratios within a turn are what counts; absolute figures are this machine's at this moment. Needs wrk (Debian: wrk).
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent
PORT = 8451
START_SECONDS = 120
BOUNDARY = "bench"
MANY = 64
"""Images a request, where it is many."""


@dataclass(frozen=True)
class Server:
    """How a server is started, and in which form it takes an image."""

    name: str
    command: tuple[str, ...]
    form: str


def servers(peers: Path) -> list[Server]:
    """This one and its peers; `peers` is the folder of their environment's commands."""
    python = str(peers / "python")
    ours = str(Path(sys.executable).with_name("kernelscope"))
    uvicorn = ("-m", "uvicorn", "plain_fastapi:app", "--no-access-log", "--log-level", "warning", "--port", str(PORT))
    bento = ("serve", "bentoml_app:Classifier", "--port", str(PORT))
    return [
        Server("kernelscope", (ours, "serve", "--port", str(PORT), "--log-requests", "false"), "raw"),
        Server("plain FastAPI", (python, *uvicorn), "file"),
        Server("LitServe", (python, "litserve_app.py", str(PORT)), "file"),
        Server("BentoML", (str(peers / "bentoml"), *bento), "file"),
        Server("Ray Serve", (python, "ray_app.py", str(PORT)), "raw"),
    ]


def body(form: str, image: bytes) -> tuple[bytes, str]:
    """A request's body and content type."""
    if form == "raw":
        return image, "image/jpeg"
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg'
    return (
        f"{head}\r\n\r\n".encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode(),
        f"multipart/form-data; boundary={BOUNDARY}",
    )


def ask(data: bytes, kind: str) -> str:
    """The answer to one request."""
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}/predict", data, {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310 -- our own server's address
        return str(reply.read().decode())


@contextmanager
def running(server: Server, bundle: Path, data: bytes, kind: str) -> Iterator[None]:
    """While the server answers; raises where it does not come to that."""
    environment = {
        **os.environ,
        "BENCH_BUNDLE": str(bundle),
        "PATH": f"{Path(server.command[0]).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(HERE / "peers"),
        "KERNELSCOPE_MODELS": str(bundle.parent.parent),
        "BENTOML_DO_NOT_TRACK": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            server.command, cwd=HERE / "peers", env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            end = time.monotonic() + START_SECONDS
            while True:
                try:
                    answer = ask(data, kind)
                    break
                except (urllib.error.URLError, OSError):
                    if process.poll() is not None or time.monotonic() > end:
                        log.seek(0)
                        raise SystemExit(f"{server.name} did not start:\n{log.read().decode()[-2000:]}") from None
                    time.sleep(0.2)
            if '"cat"' not in answer:
                raise SystemExit(f"{server.name} answers {answer}")
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def load(
    connections: int, seconds: float, data: bytes, kind: str, path: str = "/predict", header: str = ""
) -> dict[str, float]:
    """What wrk measures: requests, seconds, errors, percentiles in milliseconds."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        done = subprocess.run(
            [
                *("wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s"),
                *("-s", str(HERE / "load.lua"), f"http://127.0.0.1:{PORT}{path}"),
            ],
            env={**os.environ, "BENCH_BODY": file.name, "BENCH_TYPE": kind, "BENCH_HEADER": header},
            capture_output=True,
            text=True,
            check=True,
        )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def raw(bundle: Path, batch: int, seconds: float) -> float:
    """Images a second of onnxruntime in a loop, with its defaults."""
    session = onnxruntime.InferenceSession(bundle / "model.onnx", providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    feed = {"images": np.zeros((batch, *shape[1:]), np.uint8)}
    session.run(["probabilities"], feed)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        session.run(["probabilities"], feed)
        count += batch
    return count / (time.perf_counter() - start)


def own(bundle: Path) -> float:
    """Milliseconds of one image in onnxruntime alone on one thread, median."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(bundle / "model.onnx", options, providers=["CPUExecutionProvider"])
    feed = {"images": np.zeros((1, *session.get_inputs()[0].shape[1:]), np.uint8)}
    times = []
    for _ in range(1000):
        begin = time.perf_counter()
        session.run(["probabilities"], feed)
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def batches(image: bytes) -> dict[str, tuple[bytes, str, str, str]]:
    """Requests of 64 images, in three forms: body, content type, path, one more header."""
    pixels = np.asarray(Image.open(io.BytesIO(image)))
    tensor = np.broadcast_to(pixels, (MANY, *pixels.shape)).tobytes()
    head = {
        "inputs": [
            {
                "name": "images",
                "shape": [MANY, *pixels.shape],
                "datatype": "UINT8",
                "parameters": {"binary_data_size": len(tensor)},
            }
        ],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(head).encode()
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'.encode()
    form = b"".join([part + image + b"\r\n"] * MANY) + f"--{BOUNDARY}--\r\n".encode()
    several = json.dumps({"images": [base64.b64encode(image).decode()] * MANY}).encode()
    infer = "/v2/models/cifar10/infer"
    return {
        "tensor, V2 binary": (
            text + tensor,
            "application/octet-stream",
            infer,
            f"Inference-Header-Content-Length: {len(text)}",
        ),
        "JPEGs, JSON": (several, "application/json", "/predict/batch", ""),
        "JPEGs, form": (form, f"multipart/form-data; boundary={BOUNDARY}", "/predict/batch", ""),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="bin folder of the peers' environment")
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "cifar10" / "3")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--only", nargs="*", help="names of servers; all by default")
    chosen = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("wrk is not installed: apt-get install wrk")
    image = (ROOT / "examples" / "cat.jpg").read_bytes()
    results: dict[str, list[dict[int, dict[str, float]]]] = {}
    loops: list[tuple[float, float]] = []
    shares: dict[str, list[float]] = {}
    above: list[float] = []
    bundle = chosen.bundle.resolve()
    for turn in range(chosen.rounds):
        loops.append((raw(bundle, 1, chosen.seconds / 2), raw(bundle, 32, chosen.seconds / 2)))
        for server in servers(chosen.peers.absolute()):
            if chosen.only and server.name not in chosen.only:
                continue
            data, kind = body(server.form, image)
            with running(server, bundle, data, kind):
                load(64, 2, data, kind)  # warm
                figures = {connections: load(connections, chosen.seconds, data, kind) for connections in (64, 1)}
                if server.name == "kernelscope":
                    above.append(figures[1]["p50"] - own(bundle))
                    for form, request in batches(image).items():
                        measured = load(4, chosen.seconds, *request)
                        images = MANY * measured["requests"] / measured["seconds"]
                        shares.setdefault(form, []).append(images / raw(bundle, MANY, chosen.seconds / 2))
            results.setdefault(server.name, []).append(figures)
            rate = figures[64]["requests"] / figures[64]["seconds"]
            print(f"turn {turn + 1}: {server.name:<14}{rate:8.0f}/s  {figures}", file=sys.stderr)
    print_table(results, loops)
    if above:
        low, high = min(above), max(above)
        middle = statistics.median(above)
        print(f"one connection, median above the model's own time: {middle:.2f} ms ({low:.2f}-{high:.2f})")
    for form, share in shares.items():
        low, high = min(share), max(share)
        print(f"{MANY} images a request, {form}: {statistics.median(share):.0%} ({low:.0%}-{high:.0%}) of onnxruntime")


def print_table(results: dict[str, list[dict[int, dict[str, float]]]], loops: list[tuple[float, float]]) -> None:
    """Medians over the turns with their range; the ratio is the median of the turns' own ratios to the first server."""

    def shown(values: list[float], digits: int = 0) -> str:
        return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"

    def rates(name: str) -> list[float]:
        return [turn[64]["requests"] / turn[64]["seconds"] for turn in results[name]]

    first = next(iter(results))
    print(f"onnxruntime alone: {shown([single for single, _ in loops])} images/s one by one, ", end="")
    print(f"{shown([batched for _, batched in loops])} in batches of 32; medians (range) of {len(loops)} turns\n")
    print(
        f"| server | 64 connections, requests/s | {first} is faster by | p99 ms "
        "| 1 connection, p50 ms | p99 ms | errors |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, turns in results.items():
        ratios = [ours / theirs for ours, theirs in zip(rates(first), rates(name), strict=True)]
        print(
            f"| {name} | {shown(rates(name))} | {shown(ratios, 2)} | {shown([turn[64]['p99'] for turn in turns], 1)} "
            f"| {shown([turn[1]['p50'] for turn in turns], 2)} | {shown([turn[1]['p99'] for turn in turns], 2)} "
            f"| {sum(int(turn[c]['errors']) for turn in turns for c in turn)} |"
        )


if __name__ == "__main__":
    main()
