"""`make bench-limits`: how the server starts, idles, lasts, explains, and copes with four times what it can do.

Needs wrk (Debian: wrk). Each figure is printed as it is had; the whole takes about ten minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path

import uvloop

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PORT = 8452
IMPORTS = "import fastapi, onnxruntime, PIL.Image"
IMAGE = (ROOT / "examples" / "cat.jpg").read_bytes()
PAGE = os.sysconf("SC_PAGE_SIZE")
DEADLINE = 1.0
"""Seconds within which an answer counts, in the overload."""
MOST_CONNECTIONS = 9000
"""Of the overload: requests that wait for half a second at 6,000 a second are 3,000 connections already."""
METHODS = ("contributions", "gradient_activation", "occlusion", "integrated_gradients")


@contextmanager
def serving(*flags: str) -> Iterator[subprocess.Popen[bytes]]:
    """While a server is ready; yields its process."""
    command = [Path(sys.executable).with_name("kernelscope"), "serve", "--port", str(PORT), "--log-requests", "false"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([*command, *flags], cwd=ROOT, stdout=log)
        try:
            while not ready():
                if process.poll() is not None:
                    raise SystemExit("the server did not start")
            yield process
        finally:
            process.terminate()
            process.wait(60)


def ready() -> bool:
    """Whether the server answers that it is."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health/ready", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def processes(server: subprocess.Popen[bytes]) -> list[int]:
    """A server's process ids: its own and its workers'."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return [server.pid, *map(int, children)]


def resident(pids: list[int]) -> list[int]:
    """Resident bytes of each."""
    return [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE for pid in pids]


def proportional(pids: list[int]) -> int:
    """Bytes of all, each shared page counted once."""
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return sum(int(line.split()[1]) * 1024 for text in texts for line in text.splitlines() if line.startswith("Pss:"))


def cpu(pids: list[int]) -> float:
    """Processor seconds of all."""
    rows = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in pids]
    return sum(int(row[11]) + int(row[12]) for row in rows) / os.sysconf("SC_CLK_TCK")


def shown(values: list[float], unit: str, digits: int = 2) -> str:
    """Median and range."""
    return f"{statistics.median(values):.{digits}f} {unit} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def start(rounds: int, flags: list[str]) -> None:
    """Seconds to ready above those of the imports alone, side by side."""
    imports, starts = [], []
    for _ in range(rounds):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", IMPORTS], check=True)
        imports.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        with serving(*flags):
            starts.append(time.perf_counter() - begin)
    above = [whole - part for whole, part in zip(starts, imports, strict=True)]
    print(f"ready {shown(above, 's')} after the imports alone, which take {shown(imports, 's')}; {rounds} rounds")


def idle(seconds: float, flags: list[str]) -> None:
    """Processor time of a server that nobody asks."""
    with serving(*flags) as process:
        pids = processes(process)
        before = cpu(pids)
        time.sleep(seconds)
        print(f"idle: {(cpu(pids) - before) / seconds:.2%} of one core, over {seconds:g} s")


def soak(requests: int, flags: list[str]) -> None:
    """Resident memory half way and at the end of many requests."""
    with serving(*flags) as process, tempfile.NamedTemporaryFile() as file:
        pids = processes(process)
        file.write(IMAGE)
        file.flush()
        print(f"memory at the start: {[round(size / 1e6, 1) for size in resident(pids)]} MB resident, each process")
        done = 0
        halves = []
        for half in (requests // 2, requests):
            while done < half:
                url = f"http://127.0.0.1:{PORT}/predict"
                command = ["wrk", "-t1", "-c64", "-d5s", "-s", str(HERE / "load.lua"), url]
                environment = {**os.environ, "BENCH_BODY": file.name, "BENCH_TYPE": "image/jpeg"}
                said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
                done += int(said.split('"requests": ')[1].split(",")[0])
            halves.append(resident(pids))
            each, whole = [round(size / 1e6, 1) for size in halves[-1]], proportional(pids) / 1e6
            print(f"after {done:,} requests: {each} MB resident, {whole:.0f} MB in all, shared pages counted once")
        print(f"growth from half way: {sum(halves[1]) / sum(halves[0]) - 1:+.2%}")


@dataclass
class Load:
    """An open-loop load: requests are sent when they are due, whether or not earlier ones have been answered."""

    rate: float
    seconds: float
    taken: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    other: collections.Counter[str] = field(default_factory=collections.Counter)
    under_way: int = 0


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
    REQUEST = HEAD % len(IMAGE) + IMAGE

    def __init__(self, load: Load, idle: dict[Connection, None]) -> None:
        self._load, self._idle = load, idle
        self._sent = 0.0
        self.answered = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready for a request."""
        self._transport = transport
        self._idle[self] = None

    def send(self) -> None:
        """Send the request."""
        self._sent = time.perf_counter()
        self._load.under_way += 1
        self._transport.write(self.REQUEST)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """A reply, or its second half."""
        took = time.perf_counter() - self._sent
        if not data.startswith(b"HTTP"):
            return  # the body, where it comes on its own
        if data.startswith(b"HTTP/1.1 200"):
            self._load.taken.append(took)
        elif data.startswith(b"HTTP/1.1 503"):
            self._load.refused.append(took)
        else:
            self._load.other[data[:20].decode(errors="replace")] += 1
        self._load.under_way -= 1
        self._idle[self] = None
        self.answered.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The server ends connections on which nothing comes; that is no loss."""
        if self._idle.pop(self, self) is self:
            self._load.under_way -= 1
            self._load.other["lost"] += 1


async def offer(load: Load, connections: int) -> None:
    """Offer a load on as many connections as it takes, and wait for what is under way at its end."""
    idle: dict[Connection, None] = {}
    loop = asyncio.get_running_loop()

    async def connect() -> None:
        await loop.create_connection(lambda: Connection(load, idle), "127.0.0.1", PORT)

    for _ in range(connections):
        await connect()
    begin, sent, opened = time.perf_counter(), 0, set[asyncio.Task[None]]()
    while (now := time.perf_counter() - begin) < load.seconds:
        while sent < now * load.rate:
            sent += 1
            if idle:
                idle.popitem()[0].send()  # the one that was used last
            else:
                load.other["not sent, for want of a connection"] += 1
                if connections + len(opened) < MOST_CONNECTIONS:
                    opened.add(asyncio.create_task(connect()))
        await asyncio.sleep(0.001)
    while load.under_way and time.perf_counter() - begin < load.seconds + 10:  # noqa: ASYNC110 -- it is the clock's
        await asyncio.sleep(0.01)
    await asyncio.gather(*opened)


async def alone(count: int) -> list[float]:
    """Seconds of requests one after the other on one connection."""
    load = Load(0, 0)
    loop = asyncio.get_running_loop()
    transport, connection = await loop.create_connection(lambda: Connection(load, {}), "127.0.0.1", PORT)
    for _ in range(count):
        connection.answered.clear()
        connection.send()
        await connection.answered.wait()
    transport.close()
    return load.taken


def percentile(values: list[float], share: float) -> float:
    """The value below which that share of them is."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


async def peak() -> float:
    """Answers a second within the deadline, at most: the rate is raised until answers no longer keep up with it."""
    capacity, rate = 0.0, 500.0
    while True:
        load = Load(rate, 3)
        await offer(load, 500)
        answered = sum(took <= DEADLINE for took in load.taken) / load.seconds
        capacity = max(capacity, answered)
        if answered < 0.95 * rate:
            break
        rate *= 1.25
    print(f"peak: {capacity:.0f} answers/s within {DEADLINE:g} s, at {rate:.0f} requests/s offered")
    return capacity


def explain(method: str) -> None:
    """Ask for one explanation. Raises where it is not answered."""
    url = f"http://127.0.0.1:{PORT}/explain?method={method}"
    request = urllib.request.Request(url, IMAGE, {"Content-Type": "image/jpeg"})
    with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310 -- our own server's address
        reply.read()


def explain_until(ended: Event, method: str, count: Synchronized[int]) -> None:
    """Ask for one explanation after the other; counts those that were answered.

    Its process is its own, and takes what time is left over: what the client costs is not what is measured.
    """
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while not ended.is_set():
        explain(method)
        count.value += 1


async def explanations(rounds: int, seconds: float) -> None:
    """The slowest of a hundred predictions at half of the peak, alone and beside one explanation at a time."""
    rate, processes_of = (await peak()) / 2, multiprocessing.get_context("spawn")
    for method in METHODS:
        for _ in range(4 * (os.cpu_count() or 1)):  # each of the server's processes starts one that explains
            await asyncio.to_thread(explain, method)
    for method in METHODS:
        figures: dict[bool, list[float]] = {False: [], True: []}
        counts, shed = [], 0
        for _ in range(rounds):
            for beside in (False, True):
                load, ended, count = Load(rate, seconds), processes_of.Event(), processes_of.Value("i")
                asking = processes_of.Process(target=explain_until, args=(ended, method, count))
                if beside:
                    asking.start()
                    while not count.value:  # noqa: ASYNC110 -- it has no event for this loop
                        await asyncio.sleep(0.05)
                first = count.value
                await offer(load, 100)
                ended.set()
                if beside:
                    counts.append((count.value - first) / seconds)
                    await asyncio.to_thread(asking.join)
                figures[beside].append(percentile(load.taken, 0.99) * 1e3)
                shed += len(load.refused) + sum(load.other.values())
        print(
            f"{method}: p99 at {rate:.0f} requests/s {shown(figures[False], 'ms', 1)} alone, "
            f"{shown(figures[True], 'ms', 1)} beside {shown(counts, 'explanations/s', 1)}; {shed} not answered"
        )


async def overload(seconds: float) -> None:
    """Four times the capacity, then nothing but one request after the other."""
    before = await alone(300)
    capacity = await peak()
    load = Load(4 * capacity, seconds)
    spent = time.process_time()
    await offer(load, 1000)
    spent = time.process_time() - spent
    end = time.perf_counter()
    good = sum(took <= DEADLINE for took in load.taken) / load.seconds
    await asyncio.sleep(max(0.0, end + 1 - time.perf_counter()))
    after = await alone(300)
    print(
        f"at {load.rate:.0f}/s offered: {good:.0f} answers/s within the deadline, {good / capacity:.0%} of the peak; "
        f"{len(load.refused) / load.seconds:.0f} refusals/s, p50 {percentile(load.refused, 0.5) * 1e3:.1f} ms, "
        f"p99 {percentile(load.refused, 0.99) * 1e3:.1f} ms; answers' p99 {percentile(load.taken, 0.99) * 1e3:.0f} ms; "
        f"other: {dict(load.other)}; the load's own work took {spent / seconds:.0%} of one core"
    )
    print(
        f"one request after the other, median: {statistics.median(before) * 1e3:.2f} ms before, "
        f"{statistics.median(after) * 1e3:.2f} ms one second after the load"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=["start", "idle", "soak", "explanations", "overload"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("flags", nargs="*", help="flags of `kernelscope serve`, after --")
    chosen = parser.parse_args()
    if "start" in chosen.only:
        start(chosen.rounds, chosen.flags)
    if "idle" in chosen.only:
        idle(20, chosen.flags)
    if "soak" in chosen.only:
        soak(chosen.requests, chosen.flags)
    if "explanations" in chosen.only:
        with serving(*chosen.flags):
            uvloop.run(explanations(chosen.rounds, 5))
    if "overload" in chosen.only:
        room = str(2 * MOST_CONNECTIONS)
        with serving("--timeout", str(DEADLINE), "--max-connections", room, *chosen.flags):
            uvloop.run(overload(10))


if __name__ == "__main__":
    main()
