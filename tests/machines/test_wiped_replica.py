"""A replica that lost its disk must not help to elect a leader that lacks what it had stored."""

from contextlib import ExitStack

import pytest
from integration.conftest import converged, freeze
from integration.waiting import eventually

from agentkeeper.errors import OutcomeUnknown, Unavailable
from agentkeeper.launcher import LocalCluster
from chaos.backends.damage import wipe

from .clusters import cluster_in_network, sharing_a_secret
from .load import NOBODYS_TOOL, TIMEOUT_S

IMPATIENCE_S = 5.0


class Paused:
    """An isolated leader that does not run."""

    def __init__(self, cluster):
        self.cluster = cluster

    def isolate(self, name):
        freeze(self.cluster.nodes[name])

    def heal(self):
        for node in self.cluster.nodes.values():
            node.resume()


@pytest.fixture(params=["paused", "cut off"])
def hurt(request, folder):
    """A cluster, and something that isolates one of its replicas."""
    with ExitStack() as stack:
        if request.param == "paused":
            cluster = stack.enter_context(LocalCluster(replicas=3))
            isolation = Paused(cluster)
            stack.callback(isolation.heal)
        else:
            request.getfixturevalue("networks_can_be_cut")
            cluster, isolation = stack.enter_context(
                cluster_in_network(folder, **sharing_a_secret(folder))
            )
        yield cluster, isolation


def create(client, type, timeout=TIMEOUT_S):
    return client.create_task(type, required_tools=[NOBODYS_TOOL], timeout=timeout)


def test_nobody_leads_without_what_the_isolated_leader_and_the_wiped_one_had(hurt):
    cluster, isolation = hurt
    leader = cluster.leader()
    wiped, behind = cluster.followers()
    with cluster.client() as client:
        behind.kill()
        tasks = [create(client, f"task {i}") for i in range(20)]  # stored by two of three
        wiped.kill()
        wipe(wiped)
        isolation.isolate(leader.name)
        wiped.start()
        behind.start()
        nodes = list(cluster.nodes.values())
        eventually(lambda: all(node.unready_reason() for node in nodes), "no majority")
        eventually(lambda: wiped.status() and behind.status(), "both")
        with pytest.raises((Unavailable, OutcomeUnknown)):  # the leader may have heard of it
            create(client, "without them", timeout=IMPATIENCE_S)
        assert cluster.find_leader() is None
        assert all(node.unready_reason() for node in nodes)

        isolation.heal()
        tasks.append(create(client, "with them again"))
        assert [client.get_task(task.id).type for task in tasks] == [task.type for task in tasks]

        cluster.wait_ready()
        leader.kill()
        tasks.append(create(client, "by the one that was wiped and the one that was behind"))
        known = {task.id for task in client.list_tasks()}
        assert {task.id for task in tasks} <= known
    leader.start()
    cluster.wait_ready()
    assert converged(cluster)
