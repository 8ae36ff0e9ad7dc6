"""Replicas that share a secret, and one that has another."""

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.launcher import LocalCluster

from .conftest import converged
from .story import go_on, play, recall
from .waiting import eventually


def secret_file(tmp_path, name):
    path = tmp_path / name
    path.write_text(f"the secret of all who are {name}\n")
    return f"--raft-secret-file={path}"


def test_replicas_with_one_secret_form_a_cluster(tmp_path, wire):
    with LocalCluster(replicas=3, extra_args=[secret_file(tmp_path, "friends")]) as cluster:
        a, b, c = cluster.nodes.values()
        story = play(wire(a))
        recall(wire(b), story)
        go_on(wire(c), story)
        assert converged(cluster)


def test_a_replica_with_another_secret_neither_joins_nor_disturbs(tmp_path, wire):
    friends, stranger = secret_file(tmp_path, "friends"), secret_file(tmp_path, "strangers")
    cluster = LocalCluster(
        replicas=3, extra_args=["--bootstrap", friends], node_args={"c": [stranger]}
    )
    try:
        a, b, c = cluster.nodes.values()
        a.start()
        b.start()
        cluster.wait_ready(nodes=[a, b])
        via = wire(a)
        before = via.status()
        began_ms = before.cluster_time_ms
        via.register("beating", ttl=5)  # so that cluster time goes on
        c.start()
        eventually(lambda: c.status() is not None, "the stranger")
        story = play(via)
        eventually(lambda: via.status().cluster_time_ms - began_ms > 5_000, "time to disturb")
        recall(wire(b), story)
        for node in (a, b):
            status = wire(node).status()
            assert status.term == before.term
            assert status.leader_node_id == before.leader_node_id
            assert [r.node_id for r in status.replicas if r.connected and r.node_id == "c"] == []
        stranger_status = wire(c).status()
        assert stranger_status.role != pb.REPLICA_ROLE_LEADER
        assert stranger_status.commit_index <= 1
        assert stranger_status.applied_index == 0
        assert c.unready_reason()
        assert c.running
    finally:
        cluster.close()


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o644, True)])
def test_a_secret_that_others_may_read_is_warned_of(tmp_path, mode, warned):
    friends = secret_file(tmp_path, "friends")
    (tmp_path / "friends").chmod(mode)
    cluster = LocalCluster(replicas=2, extra_args=[friends])
    try:
        a = cluster.nodes["a"]
        a.start()
        eventually(lambda: a.status() is not None, "the replica")
        assert ("others than its owner may read it" in a.log_path.read_text()) == warned
    finally:
        cluster.close()
