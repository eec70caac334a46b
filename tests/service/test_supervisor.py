"""Several processes on one socket."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.support.group import Connected, is_alive, reach, workers
from tests.support.images import image
from tests.support.models import ADMIN, ROTATED, colour_bundle, publish, slow_bundle
from tests.support.raw import connect
from tests.support.server import ROOT, Server, command, figures
from tests.support.waiting import eventually

PREDICTED = (
    "kernelscope_requests_total[('code', '200'), ('method', 'POST'), ('model', 'colours'), ('route', '/predict'), "
    "('version', '1')]"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    colour_bundle(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def group(serve: Callable[..., Server], root: Path) -> Server:
    return serve("--models", str(root), "--workers", "2", KERNELSCOPE_ADMIN_KEY="secret", KERNELSCOPE_WATCH="0")


Reach = Callable[[Server], dict[int, httpx.Client]]


@pytest.fixture
def reached() -> Iterator[Reach]:
    """Clients connected to each process of a server, by process id; they leave at the end."""
    with ExitStack() as stack:
        yield lambda server: stack.enter_context(reach(server))


def test_each_answers_and_their_figures_are_summed(reached: Reach, group: Server) -> None:
    clients = list(reached(group).values())
    for client in clients:
        for _ in range(3):
            assert client.post("/predict", content=image("red")).json()["label"] == "red"
    pages = [figures(group, client) for client in clients]
    assert [page[PREDICTED] for page in pages] == [6, 6]
    resident = [
        int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") for pid in workers(group)
    ]
    assert pages[0]["process_resident_memory_bytes[]"] == pytest.approx(sum(resident), rel=0.05)
    stats = [client.get("/v2/models/colours/stats").json()["model_stats"][0]["inference_count"] for client in clients]
    assert stats == [6, 6]
    assert clients[0].get("/health").json()["processes"] == 2


def test_promtool_finds_nothing_to_say_of_a_crew(group: Server) -> None:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed: it comes with Debian's package prometheus")
    group.client.post("/predict", content=image())
    page = group.client.get("/metrics").content
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_is_loaded_changes_in_all(reached: Reach, group: Server, root: Path) -> None:
    clients = list(reached(group).values())
    publish(root, 2, labels=ROTATED)

    def answers() -> list[tuple[int, str]]:
        replies = [client.post("/predict", content=image("red")).json() for client in clients]
        return [(one["version"], one["label"]) for one in replies]

    for number, client in enumerate(clients):
        assert client.post("/v2/repository/models/colours/load", headers=ADMIN).status_code == 200
        assert answers() == [(2, "blue")] * 2
        back = {"parameters": {"version": "1"}}
        assert client.post("/v2/repository/models/colours/load", json=back, headers=ADMIN).status_code == 200
        assert answers() == [(1, "red")] * 2, number
        missing = {"parameters": {"version": "7"}}
        assert client.post("/v2/repository/models/colours/load", json=missing, headers=ADMIN).status_code == 404
    assert clients[1].post("/v2/repository/models/colours/unload", headers=ADMIN).status_code == 200
    assert [client.post("/predict", content=image()).status_code for client in clients] == [404, 404]


def test_one_that_dies_is_replaced_and_learns_what_was_asked_for(reached: Reach, group: Server, root: Path) -> None:
    publish(root, 2, labels=ROTATED)
    back = {"parameters": {"version": "1"}}
    assert group.client.post("/v2/repository/models/colours/load", json=back, headers=ADMIN).status_code == 200
    clients = reached(group)
    for client in clients.values():
        client.post("/predict", content=image("red"))
    assert figures(group)[PREDICTED] == 2
    dies, stays = clients
    os.kill(dies, signal.SIGKILL)
    eventually(lambda: len(workers(group)) == 2 and dies not in workers(group))
    eventually(lambda: clients[stays].get("/health/ready").status_code == 200)
    now = reached(group)
    assert stays in now
    assert dies not in now
    assert [one.post("/predict", content=image("red")).json()["version"] for one in now.values()] == [1, 1]
    assert figures(group, clients[stays])[PREDICTED] == 4  # what the dead one answered is still counted
    assert group.end() == 0
    assert "starting it anew" in "\n".join(group.lines)


def test_sigterm_ends_all_and_answers_what_it_had(reached: Reach, serve: Callable[..., Server], tmp_path: Path) -> None:
    slow_bundle(tmp_path)
    server = serve("--models", str(tmp_path), "--workers", "2", "--max-batch-size", "1")
    pids = workers(server)
    clients = list(reached(server).values())
    with ThreadPoolExecutor(6) as pool:
        some = [pool.submit(httpx.post, server.url + "/predict", content=image("red"), timeout=60) for _ in range(6)]
        eventually(lambda: figures(server, clients[0])["kernelscope_requests_in_flight[]"] >= 7)
        assert server.end() == 0
        assert [one.result().json()["label"] for one in some] == ["red"] * 6
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_the_supervisor_has_no_thread_that_a_forked_process_would_lack(group: Server) -> None:
    assert len(list(Path(f"/proc/{group.process.pid}/task").iterdir())) == 1


def test_processes_share_what_the_supervisor_has_imported(group: Server) -> None:
    def kilobytes(pid: int, name: str) -> int:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(name))

    for pid in workers(group):
        assert kilobytes(pid, "Pss:") < 0.7 * kilobytes(pid, "Rss:")


def test_no_process_outlives_a_supervisor_that_is_killed(group: Server) -> None:
    pids = workers(group)
    group.process.kill()
    group.process.wait()
    eventually(lambda: not any(map(is_alive, pids)))


def test_one_that_hangs_is_not_ready(reached: Reach, group: Server) -> None:
    hangs, answers = reached(group).items()
    os.kill(hangs[0], signal.SIGSTOP)
    assert answers[1].get("/health/ready").status_code == 503
    assert answers[1].get("/health").json()["status"] == "starting"
    os.kill(hangs[0], signal.SIGCONT)
    eventually(lambda: answers[1].get("/health/ready").status_code != 503)
    assert group.end() == 0
    assert "Traceback" not in "\n".join(group.lines)


@pytest.mark.parametrize(("model", "says"), [(b"not a model", "does not load"), (None, "holds no model")])
def test_what_one_cannot_start_with_is_said_once(tmp_path: Path, model: bytes | None, says: str) -> None:
    root = tmp_path / "models"
    root.mkdir()
    if model:
        colour_bundle(root).model.write_bytes(model)
    done = subprocess.run(
        command("serve", "--port", "0", "--workers", "3", "--models", str(root)),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("kernelscope serve:")]
    assert says in line
    assert "Traceback" not in done.stderr


def open_sockets(pid: int) -> int:
    return sum(os.readlink(link).startswith("socket:") for link in Path(f"/proc/{pid}/fd").glob("*"))


def test_a_burst_of_connections_is_shared_evenly(group: Server) -> None:
    pids = workers(group)
    before = {pid: open_sockets(pid) for pid in pids}
    with ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(connect(group))

        def taken() -> list[int]:
            counts = [open_sockets(pid) - before[pid] for pid in pids]
            return counts if sum(counts) == 64 else []

        counts = eventually(taken)
    assert max(counts) - min(counts) <= 4


def test_connections_are_shared_evenly(group: Server) -> None:
    with ExitStack() as stack:
        connected = [Connected(group) for _ in range(8)]
        for connection in connected:
            stack.callback(connection.close)
        owners = [connection.pid for connection in connected]
    assert {owners.count(pid) for pid in workers(group)} <= {3, 4, 5}
