"""A new cluster begins when all its replicas are there, or a majority that may begin alone."""

import pytest
from integration.conftest import converged
from integration.waiting import eventually
from integration.wire import Wire

from agentkeeper.errors import OutcomeUnknown, Unavailable
from agentkeeper.launcher import LocalCluster
from chaos.backends.damage import wipe

from .load import NOBODYS_TOOL

IMPATIENCE_S = 4.0


@pytest.fixture
def new_cluster():
    clusters = []

    def make(**arguments):
        clusters.append(LocalCluster(replicas=3, **arguments))
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.close()


def create(client, type, timeout=30.0):
    return client.create_task(type, required_tools=[NOBODYS_TOOL], timeout=timeout)


def test_a_new_cluster_waits_for_all_its_replicas(new_cluster):
    cluster = new_cluster()
    a, b, c = cluster.nodes.values()
    a.start()
    c.start()
    with cluster.client() as client:
        eventually(lambda: a.status() and c.status(), "both")
        with pytest.raises(Unavailable):
            create(client, "too early", timeout=IMPATIENCE_S)
        assert "it is new" in a.unready_reason()
        b.start()
        create(client, "all are there")
        cluster.wait_ready()
        assert [task.type for task in client.list_tasks()] == ["all are there"]
    assert converged(cluster)


def test_a_majority_begins_alone_when_told_to_and_the_last_one_joins(new_cluster):
    cluster = new_cluster(extra_args=["--bootstrap"])
    a, b, c = cluster.nodes.values()
    a.start()
    b.start()
    cluster.wait_ready(nodes=[a, b])
    with cluster.client() as client:
        create(client, "without c")
        c.start()
        cluster.wait_ready()
        a.kill()
        create(client, "with c")
        assert [task.type for task in client.list_tasks()] == ["without c", "with c"]
    a.start()
    cluster.wait_ready()
    assert converged(cluster)


def test_a_majority_that_lost_its_disks_does_not_begin_anew(new_cluster):
    """What the third one knows would be gone: nobody may act as if it had never been."""
    cluster = new_cluster()
    cluster.start()
    cluster.wait_ready()
    a, b, c = cluster.nodes.values()
    with cluster.client() as client:
        task = create(client, "known to all")
        assert converged(cluster)
        for node in (a, b):
            node.kill()
            wipe(node)
            node.start()
        eventually(lambda: a.status() and b.status() and c.unready_reason(), "all to know")
        with pytest.raises((Unavailable, OutcomeUnknown)):  # the third one may have heard of it
            create(client, "without what was", timeout=IMPATIENCE_S)
    assert a.unready_reason()
    assert b.unready_reason()
    wire = Wire(c.endpoint)
    assert wire.get_task(task.id, agentkeeper_consistency="stale").id == task.id
    wire.close()
