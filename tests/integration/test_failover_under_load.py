"""Replicas are killed, paused, cut off and restarted under everything the SDK does.

No call fails, nothing takes effect twice, no watch misses or repeats an event, and nobody is
granted what somebody else still counts on: `MixedLoad` says how that is known.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentkeeper.launcher import LocalCluster, Node

from .conftest import converged, freeze, heal
from .links import Links
from .mixed_load import MixedLoad
from .waiting import eventually

FAULTS = ["kill", "stop", "cut", "isolate", "mute"]
MORE = 8


@pytest.fixture(scope="module")
def links() -> Iterator[Links]:
    with Links() as links:
        yield links


@pytest.fixture(scope="module")
def linked_cluster(links: Links) -> Iterator[LocalCluster]:
    """Three replicas that know each other and are known by links."""
    with LocalCluster(replicas=3, route=links.route) as cluster:
        yield cluster


@pytest.fixture
def linked(links: Links, linked_cluster: LocalCluster) -> Iterator[LocalCluster]:
    """Whole before, healed after."""
    links.heal()
    heal(linked_cluster)
    yield linked_cluster
    links.heal()
    for node in linked_cluster.nodes.values():
        node.resume()


def strike(links: Links, node: Node, fault: str) -> None:
    match fault:
        case "kill":
            node.kill()
        case "stop":
            freeze(node)
        case "cut":
            links.cut(node.name)
        case "isolate":  # clients reach it still: it can't serve, and its connections live
            links.isolate(node.name)
        case "mute":  # it does what it is asked to, and nobody hears of it: all is asked again
            links.mute(node.name)


def await_other_leader(cluster: LocalCluster, old: Node) -> Node:
    return eventually(
        lambda: (leader := cluster.find_leader()) is not old and leader, "another leader"
    )


def await_served_alike(cluster: LocalCluster) -> None:
    """Wait until all replicas serve and know one leader."""
    cluster.wait_ready()
    eventually(
        lambda: len({s.leader_node_id if s else None for s in cluster.statuses().values()}) == 1,
        "one leader known to all",
    )


def last_sequence(wire) -> int:
    return int(wire.watch_all().headers["agentkeeper-sequence"])


@pytest.mark.parametrize("victim", ["leader", "follower"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_replica_is_lost_and_comes_back(linked, links, wire, fault, victim):
    leader = linked.leader()
    node = leader if victim == "leader" else linked.followers()[0]
    wires = [wire(node) for node in linked.nodes.values()]
    with MixedLoad(linked, links, last_sequence(wires[0])) as load:
        load.await_more(MORE, "before")
        load.tell(f"{fault} {node} ({victim})")
        strike(links, node, fault)
        if victim == "leader" and fault != "mute":
            load.tell(f"new leader: {await_other_leader(linked, leader)}")
        load.await_more(MORE, "without it")
        links.heal()
        heal(linked)
        await_served_alike(linked)
        load.await_more(MORE, "with it again")
        load.finish([wire(node) for node in linked.nodes.values()])
    assert converged(linked)


def test_all_replicas_are_restarted_one_after_the_other(linked, links, wire):
    wires = [wire(node) for node in linked.nodes.values()]
    with MixedLoad(linked, links, last_sequence(wires[0])) as load:
        load.await_more(MORE, "before")
        for node in linked.nodes.values():
            load.tell(f"restart {node}")
            assert node.terminate() == 0, node.log_tail()
            load.await_more(MORE, f"without {node.name}")
            node.start()
            await_served_alike(linked)
            load.await_more(MORE, f"with {node.name} again")
        load.finish([wire(node) for node in linked.nodes.values()])
    assert converged(linked)
