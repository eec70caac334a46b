"""`make bench-serving`: this server beside others, like for like.

The same model, the same body, the same load generator on the same cores, and as many processes for everybody, each
with one thread of onnxruntime; with `--defaults`, each server as it comes. Access logs are off for all, or on for all
that have one (`--log-requests`). Servers are started in turn, and the turn is taken several times, so that a machine
that slows slows all of them: ratios within a turn are what counts. Needs wrk (Debian: wrk).
"""

from __future__ import annotations

import argparse
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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from benchmarks.servers import FORM, NUMBERS, PORT, RAW, ROOT, SERVERS, TENSOR, Server, Setting

HERE: Final = Path(__file__).resolve().parent
START_SECONDS: Final = 120
FORMS: Final = [FORM, TENSOR, NUMBERS, RAW]
BOUNDARY: Final = "d1b5a5b06f0e4bd1a7e9c5b0f4a63c11"


@dataclass(frozen=True)
class Body:
    """What is sent again and again."""

    data: bytes
    kind: str
    path: str
    header: str = ""


@dataclass(frozen=True)
class Figures:
    """What one load came to: requests a second, milliseconds, processor seconds a request, errors, and megabytes."""

    rate: float
    p50: float
    p99: float
    cpu: float
    errors: float
    memory: float


def body(form: str, image: bytes, bundle: Path) -> Body:
    """A request with one image."""
    if form == FORM:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"'
        part = f"{head}\r\nContent-Type: image/jpeg\r\n\r\n".encode() + image
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        return Body(part + f"\r\n--{BOUNDARY}--\r\n".encode(), kind, "/predict")
    if form == RAW:
        return Body(image, "image/jpeg", "/predict")
    card = json.loads((bundle / "card.json").read_text())
    pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB").resize((card["width"], card["height"])))
    tensor = {"name": "images", "shape": [1, *pixels.shape], "datatype": "UINT8"}
    path = f"/v2/models/{bundle.parent.name}/infer"
    if form == NUMBERS:
        text = json.dumps({"inputs": [{**tensor, "data": pixels.ravel().tolist()}]}).encode()
        return Body(text, "application/json", path)
    outputs = [{"name": "probabilities", "parameters": {"binary_data": True}}]
    inputs = [{**tensor, "parameters": {"binary_data_size": pixels.size}}]
    text = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    return Body(
        text + pixels.tobytes(), "application/octet-stream", path, f"Inference-Header-Content-Length: {len(text)}"
    )


def ask(sent: Body) -> bytes:
    """The answer to one request."""
    headers = {"Content-Type": sent.kind, **dict([sent.header.split(": ")] if sent.header else [])}
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{sent.path}", sent.data, headers)
    with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310 -- our own server's address
        return bytes(reply.read())


@contextmanager
def running(server: Server, setting: Setting, sent: Body) -> Iterator[subprocess.Popen[bytes]]:
    """While the server answers; raises where it does not come to that."""
    with server.prepared(setting) as (command, variables), tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, cwd=HERE / "peers", env=variables, stdout=log, stderr=log, start_new_session=True
        )
        try:
            end = time.monotonic() + START_SECONDS
            while True:
                try:
                    answer = ask(sent)
                    break
                except (urllib.error.URLError, OSError):
                    if process.poll() is not None or time.monotonic() > end:
                        log.seek(0)
                        said = log.read().decode(errors="replace")[-2000:]
                        raise SystemExit(f"{server.name} did not start:\n{said}") from None
                    time.sleep(0.2)
            if b'"label"' not in answer and b'"probabilities"' not in answer:
                raise SystemExit(f"{server.name} answers {answer[:300]!r}")
            yield process
        finally:
            everything = family(process.pid)  # Ray's processes are in groups of their own
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            for left in everything:
                with suppress(ProcessLookupError):
                    os.kill(left, signal.SIGKILL)
            process.wait()


def family(pid: int) -> list[int]:
    """A process and all below it."""
    pids = [pid]
    for process in pids:
        with suppress(FileNotFoundError):  # it has just ended
            for task in Path(f"/proc/{process}/task").glob("*/children"):
                pids += map(int, task.read_text().split())
    return pids


def _texts(pids: list[int], name: str) -> Iterator[str]:
    """What the system tells of each, but of those that have ended, such as what tried a model."""
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            yield Path(f"/proc/{pid}/{name}").read_text()


def cpu(pids: list[int]) -> float:
    """Processor seconds of all."""
    rows = [text.rsplit(")", 1)[1].split() for text in _texts(pids, "stat")]
    return sum(int(row[11]) + int(row[12]) for row in rows) / os.sysconf("SC_CLK_TCK")


def megabytes(pids: list[int]) -> float:
    """Memory of all, each shared page counted once."""
    lines = [line for text in _texts(pids, "smaps_rollup") for line in text.splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def load(pid: int, sent: Body, connections: int, seconds: float) -> Figures:
    """What wrk measures, and what the server takes meanwhile."""
    pids = family(pid)
    before = cpu(pids)
    with tempfile.NamedTemporaryFile() as file:
        file.write(sent.data)
        file.flush()
        done = subprocess.run(
            [
                *("wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s"),
                *("-s", str(HERE / "load.lua"), f"http://127.0.0.1:{PORT}{sent.path}"),
            ],
            env={**os.environ, "BENCH_BODY": file.name, "BENCH_TYPE": sent.kind, "BENCH_HEADER": sent.header},
            capture_output=True,
            text=True,
            check=True,
        )
    said = json.loads(done.stdout.splitlines()[-1])
    took = cpu(pids) - before
    count = max(1, said["requests"])
    return Figures(count / said["seconds"], said["p50"], said["p99"], took / count, said["errors"], megabytes(pids))


Results = dict[tuple[str, str, int], list[Figures]]


def table(results: Results, form: str, connections: int) -> str:
    """Medians over the turns, with the range of the rate; the ratio is the median of the turns' own."""
    rows = {name: turns for (name, body, count), turns in results.items() if (body, count) == (form, connections)}
    if not rows:
        return ""
    first = next(iter(rows))
    lines = [
        f"\n{form}, {connections} connection{'s' if connections > 1 else ''}\n",
        f"| server | requests/s | {first} has | p50 ms | p99 ms | processor ms a request | MB in all | errors |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, turns in rows.items():
        rates = [turn.rate for turn in turns]
        ratio = statistics.median(ours.rate / theirs.rate for ours, theirs in zip(rows[first], turns, strict=True))
        p50, p99, spent, memory = (
            statistics.median(getattr(turn, key) for turn in turns) for key in ("p50", "p99", "cpu", "memory")
        )
        rate = f"{statistics.median(rates):.0f} ({min(rates):.0f}-{max(rates):.0f})"
        errors = sum(turn.errors for turn in turns)
        cells = f"{p50:.2f} | {p99:.2f} | {spent * 1e3:.2f} | {memory:.0f} | {errors:.0f}"
        lines.append(f"| {name} | {rate} | {ratio:.2f} × | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "cifar10" / "2")
    parser.add_argument("--image", type=Path, default=ROOT / "examples" / "cat.jpg")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--connections", type=int, nargs="*", default=[1, 16, 64, 256])
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="of each server")
    parser.add_argument("--defaults", action="store_true", help="each server's own number of processes and threads")
    parser.add_argument("--decoder", choices=["pillow", "ours"], default="pillow", help="what peers decode with")
    parser.add_argument("--log-requests", action="store_true")
    parser.add_argument("--forms", nargs="*", choices=FORMS, default=FORMS)
    parser.add_argument("--only", nargs="*", help="names of servers; by default all but those on Ray")
    chosen = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("wrk is not installed: apt-get install wrk")
    processes = 0 if chosen.defaults else chosen.processes
    setting = Setting(chosen.bundle.resolve(), processes, chosen.decoder, chosen.log_requests)
    image = chosen.image.read_bytes()
    servers = [peer for peer in SERVERS if (peer.name in chosen.only if chosen.only else not peer.is_asked_for)]
    for server in servers:
        if not server.is_there():
            print(f"{server.name} is left out: its environment has not been made", file=sys.stderr)
    results: Results = {}
    for turn in range(chosen.rounds):
        for form in chosen.forms:
            sent = body(form, image, setting.bundle)
            for server in servers:
                if form not in server.forms or not server.is_there():
                    continue
                with running(server, setting, sent) as process:
                    load(process.pid, sent, 16, 1)  # warm
                    for connections in chosen.connections:
                        figures = load(process.pid, sent, connections, chosen.seconds)
                        results.setdefault((server.name, form, connections), []).append(figures)
                        print(f"turn {turn + 1}: {server.name}, {form}, {connections}: {figures}", file=sys.stderr)
    said = "as they come" if chosen.defaults else f"{processes} processes each"
    print(f"{setting.bundle.parent.name} {setting.bundle.name}, {len(image)} bytes an image, {said}, ", end="")
    print(f"medians of {chosen.rounds} turns of {chosen.seconds:g} s, wrk on the same {os.cpu_count()} cores")
    for form in chosen.forms:
        for connections in chosen.connections:
            print(table(results, form, connections))


if __name__ == "__main__":
    main()
