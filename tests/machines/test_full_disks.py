"""Disks run full: a replica says so and steps aside, and goes on when there is room again."""

import http.client
from contextlib import suppress

import pytest
from integration.conftest import converged
from integration.waiting import eventually
from integration.wire import Wire

from agentkeeper.errors import Unavailable
from chaos.backends.disk import MIB

from .clusters import cluster_on_disks
from .load import NOBODYS_TOOL, Load

pytestmark = pytest.mark.usefixtures("disks_can_fail")

DISK_BYTES = 24 * MIB
IMPATIENCE_S = 3.0
STALE = {"agentkeeper-consistency": "stale"}


def says_full(node):
    return "full" in node.unready_reason()


def lives(node):
    connection = http.client.HTTPConnection(node.metrics_addr, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.HTTPStatus.OK
    finally:
        connection.close()


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_writes_go_on_while_one_disk_is_full(folder, seed, role):
    with (
        cluster_on_disks(folder, DISK_BYTES) as (cluster, disks),
        Load(cluster, seed) as load,
    ):
        node = cluster.leader() if role == "leader" else cluster.followers()[0]
        load.tell(f"fill the disk of {node}, the {role}")
        disks[node.name].fill()
        eventually(lambda: says_full(node), "that it says so")
        load.await_more(10, "everybody goes on")
        assert cluster.leader() is not node
        assert says_full(node)
        assert lives(node)
        disks[node.name].free()
        cluster.wait_ready()
        load.await_more(1, "everybody goes on")
        load.finish()
        assert converged(cluster)


def test_writes_are_refused_while_all_disks_are_full_and_nothing_is_lost(folder, seed):
    with cluster_on_disks(folder, DISK_BYTES) as (cluster, disks), Load(cluster, seed) as load:
        nodes = list(cluster.nodes.values())
        load.await_writes(100)
        acknowledged = next(iter(load.ledger.created.values()))
        for disk in disks.values():
            disk.fill()
        load.tell("all disks are full")
        # A leader that no follower can store anything for may have nothing more to write itself.
        eventually(lambda: sum(map(says_full, nodes)) >= 2, "that a majority say so")
        with cluster.client() as client:
            with pytest.raises(Unavailable):
                client.create_task("one more", required_tools=[NOBODYS_TOOL], timeout=IMPATIENCE_S)
            with suppress(Unavailable):
                assert client.get_task(acknowledged, timeout=IMPATIENCE_S).id == acknowledged
        for node in nodes:
            assert lives(node)
            wire = Wire(node.endpoint)
            assert wire.get_task(acknowledged, **STALE).id == acknowledged
            wire.close()
        for disk in disks.values():
            disk.free()
        cluster.wait_ready()
        load.await_more(3, "everybody goes on")
        load.finish()
        with cluster.client() as client:
            assert "one more" not in {task.type for task in client.list_tasks()}
        assert converged(cluster)
