"""A replica that makes another state of the log than the others: it stops, they go on."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from agentkeeper.launcher import LocalCluster, Node

from . import differing_daemon
from .conftest import converged
from .waiting import eventually


def use_build(node: Node, kind: str) -> None:
    """Have a replica run by the script from its next start on."""
    serve = node.command.index("serve")
    node.command[:serve] = [sys.executable, differing_daemon.__file__, kind]


def log_of(node: Node) -> list[dict[str, Any]]:
    lines = node.log_path.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def write(cluster: LocalCluster, count: int) -> None:
    """At least as many log entries as there are calls, one after the other."""
    with cluster.client() as client:
        for number in range(count):
            client.set_policy(f"policy-{number}", "anybody", "reads", "anything", "ALLOW")


@pytest.fixture
def cluster(tmp_path: Path) -> LocalCluster:
    cluster = LocalCluster(replicas=3, data_dir=tmp_path, extra_args=["--log-format=json"])
    for name, node in cluster.nodes.items():
        use_build(node, "differing" if name == "c" else "same")
    return cluster


def test_it_stops_with_both_digests_and_the_index_and_comes_back_empty(cluster):
    with cluster:
        a, b, c = cluster.nodes.values()
        write(cluster, 2 * differing_daemon.EVERY)
        assert all(node.running for node in (a, b, c))
        with cluster.client() as client:
            client.set_policy(differing_daemon.FORGOTTEN, "anybody", "reads", "anything", "ALLOW")
        write(cluster, 2 * differing_daemon.EVERY)

        eventually(lambda: not c.running, "the end of the replica that differs")
        assert c.exit_code == 1
        (reason,) = [e["reason"] for e in log_of(c) if e["event"] == "stopped by a failure"]
        for node in (a, b):
            named = [e for e in log_of(node) if e["event"] == "a replica differs from the majority"]
            assert {tuple(entry["digests"]) for entry in named} == {("c",)}
            (entry,) = [entry for entry in named if f"log index {entry['index']} " in reason]
            for fact in (entry["digests"]["c"], entry["majority"], "a, b", "data folder"):
                assert fact in reason

        assert a.running
        assert b.running
        write(cluster, 2 * differing_daemon.EVERY)

        # Started as it was it stops again; as a build without the fault, and empty, it stays.
        c.start()
        eventually(lambda: not c.running, "its end once more")
        assert c.exit_code == 1
        shutil.rmtree(c.data_dir)
        use_build(c, "same")
        c.start()
        cluster.wait_ready()
        write(cluster, 2 * differing_daemon.EVERY)
        assert converged(cluster)
        assert all(node.running for node in (a, b, c))
