"""A real Ray cluster of two nodes on this machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.support.server import ROOT
from tests.support.two_nodes import TwoNodes


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoNodes]:
    """A cluster of two nodes with a core each."""
    from ray.cluster_utils import Cluster

    ports = (_free_port(), _free_port())
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_SERVE_WORKER_PROXY_HTTP_PORT", str(ports[1]))  # two nodes of one machine
    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    monkeypatch.setenv("RAY_health_check_timeout_ms", "2000")
    monkeypatch.setenv("RAY_health_check_failure_threshold", "2")
    memory = 100 * 2**20
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "object_store_memory": memory, "include_dashboard": False},
    )
    try:
        second = cluster.add_node(num_cpus=2, object_store_memory=memory)
        cluster.wait_for_nodes()
        yield TwoNodes(cluster, second, ports)
    finally:
        cluster.shutdown()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
