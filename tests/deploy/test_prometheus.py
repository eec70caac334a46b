"""A real Prometheus scrapes a running service under load, with the files of deploy/monitoring."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.images import image
from tests.support.models import colour_bundle
from tests.support.monitoring import FOLDER, queries, rules
from tests.support.server import Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(
    not shutil.which("prometheus") or not shutil.which("promtool"),
    reason="prometheus is not installed: it is a package of Debian's, with promtool",
)


def promtool(*words: str) -> str:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def loaded(serve: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that answers, is unsure, rejects and refuses, again and again."""
    models = tmp_path_factory.mktemp("models")
    colour_bundle(models, unsure_below=0.5)
    folder = tmp_path_factory.mktemp("kept")
    keys = folder / "keys.toml"
    keys.write_text('[app]\nkeys = ["app"]\n[limited]\nkeys = ["limited"]\nrequests_per_second = 1\n')
    server = serve("--models", str(models), "--feedback", str(folder / "images"), "--api-keys-file", str(keys))
    done = threading.Event()

    def load() -> None:
        with httpx.Client(base_url=server.url, headers={"X-API-Key": "app"}) as client:
            while not done.is_set():
                client.post("/predict", content=image("red"))
                for _ in range(3):
                    client.post("/predict", content=image("grey"))
                client.post("/predict", content=image("red"), headers={"X-API-Key": "limited"})
                client.post("/predict", content=b"no image")
                client.post("/predict?timeout=0.000001", content=image("red"))
                done.wait(0.01)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    yield server
    done.set()
    for thread in threads:
        thread.join()


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **parameters: str) -> Any:
        try:
            reply = httpx.get(f"{self.url}/api/v1/{path}", params=parameters)
        except httpx.TransportError:  # it is starting
            return None
        assert reply.status_code in (200, 503), reply.text
        return reply.json()["data"] if reply.status_code == 200 else None

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found


@pytest.fixture(scope="module")
def prometheus(loaded: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus with the files that ship, but for the target, and for a second where they say a minute or less."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = (FOLDER / "prometheus.yml").read_text()
    for shipped, here in (("serve:8000", loaded.url.removeprefix("http://")), (": 15s", ": 1s")):
        assert shipped in config
        config = config.replace(shipped, here)
    (folder / "prometheus.yml").write_text(config)
    (folder / "rules.yml").write_text((FOLDER / "rules.yml").read_text().replace("interval: 1m", "interval: 1s"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            ["prometheus", *flags, f"--web.listen-address={address}"], stdout=log, stderr=log, cwd=folder
        )
        try:
            found = Prometheus(f"http://{address}")
            eventually(lambda: found.get("targets"))
            yield found
        finally:
            process.terminate()
            process.wait(20)


def test_promtool_finds_nothing_wrong() -> None:
    promtool("check", "config", str(FOLDER / "prometheus.yml"))
    promtool("check", "rules", str(FOLDER / "rules.yml"))
    promtool("test", "rules", str(FOLDER / "rules.test.yml"))


def test_promtool_notices_a_rule_that_fires_no_more(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "rules.test.yml", tmp_path)
    rules_text = (FOLDER / "rules.yml").read_text()
    (tmp_path / "rules.yml").write_text(rules_text.replace("kernelscope_unsure_images_total", "kernelscope_unsure"))
    done = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "rules.test.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "KernelscopeUnsureMost" in done.stdout + done.stderr


def test_the_service_is_scraped(prometheus: Prometheus) -> None:
    (target,) = eventually(lambda: [one for one in prometheus.get("targets")["activeTargets"] if one["lastScrape"]])
    eventually(lambda: prometheus.query("up == 1"), seconds=20)
    assert target["labels"]["job"] == "kernelscope"


def test_every_rule_is_evaluated(prometheus: Prometheus) -> None:
    def healths() -> set[str]:
        groups = prometheus.get("rules")["groups"]
        return {rule["health"] for group in groups for rule in group["rules"]}

    assert eventually(lambda: (found := healths()) != {"unknown"} and "unknown" not in found and found) == {"ok"}
    recorded = [rule["record"] for rule in rules() if "record" in rule]
    recorded.remove("kernelscope:faults:rate5m")  # there are none
    for name in recorded:
        eventually(partial(prometheus.query, name), seconds=30)


def test_the_alert_on_unsure_answers_is_on_its_way(prometheus: Prometheus) -> None:
    pending = 'ALERTS{alertname="KernelscopeUnsureMost", alertstate="pending", model="colours", version="1"}'
    assert eventually(lambda: prometheus.query(pending))


@pytest.mark.parametrize(("title", "expression"), queries())
def test_every_query_of_the_dashboard_has_a_result(prometheus: Prometheus, title: str, expression: str) -> None:
    expression = expression.replace("$__rate_interval", "10s")
    result = eventually(lambda: prometheus.query(expression), seconds=30)
    assert all(sample["value"][1] != "NaN" for sample in result), (title, json.dumps(result))
