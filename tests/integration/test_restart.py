"""Everything is kept over restarts: of all replicas at once, of one, and by a snapshot."""

import pytest

from agentkeeper.launcher import LocalCluster

from .conftest import converged
from .story import go_on, play, recall
from .waiting import eventually

SMALL_SNAPSHOTS = ("--snapshot-entries", "100")


def end_all(cluster, how):
    if how == "terminate":
        assert set(cluster.stop().values()) == {0}
        return
    for node in cluster.nodes.values():
        node.kill()
        assert node.exit_code == -9


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_everything_survives_a_restart_of_all(wire, how, replicas):
    with LocalCluster(replicas=replicas) as cluster:
        nodes = list(cluster.nodes.values())
        story = play(wire(nodes[0]))
        end_all(cluster, how)
        cluster.start()
        cluster.wait_ready()
        for node in nodes:
            recall(wire(node), story)
        assert converged(cluster)
        go_on(wire(nodes[-1]), story)
        end_all(cluster, how)
        cluster.start()
        cluster.wait_ready()
        assert converged(cluster)
        again = play(wire(nodes[-1]))
        assert again.former_lease.token.value > story.lease.token.value
        assert again.events[0].sequence_number > story.last_sequence


def test_a_replica_that_missed_too_much_catches_up_by_a_snapshot(wire, name):
    with LocalCluster(replicas=3, extra_args=SMALL_SNAPSHOTS) as cluster:
        follower, other = cluster.followers()
        via = wire(other)
        story = play(via)
        lagging = wire(follower).status().applied_index
        follower.kill()
        for i in range(300):
            via.set_policy(name(f"policy{i % 10}"))
        for node in cluster.nodes.values():
            if node.running:
                text = node.log_path.read_text()
                assert '"event": "snapshot"' in text
        follower.start()
        cluster.wait_ready()
        assert converged(cluster)
        assert "state restored from a snapshot" in follower.log_path.read_text()
        assert wire(follower).status().applied_index >= lagging + 300
        recall(wire(follower), story)
        go_on(wire(follower), story)
        assert converged(cluster)


def test_a_restart_from_a_snapshot_and_the_log_after_it(wire, name):
    with LocalCluster(replicas=1, extra_args=SMALL_SNAPSHOTS) as cluster:
        node = cluster.nodes["a"]
        story = play(wire(node))
        for i in range(250):
            wire(node).set_policy(name(f"policy{i % 10}"))
        eventually(lambda: '"event": "snapshot"' in node.log_path.read_text(), "a snapshot")
        before = wire(node).status()
        node.kill()
        node.start()
        cluster.wait_ready()
        assert "state restored from a snapshot" in node.log_path.read_text()
        assert wire(node).status().applied_index > before.applied_index
        recall(wire(node), story)
        go_on(wire(node), story)
