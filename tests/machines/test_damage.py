"""Files of a replica that are not as it left them: flipped bytes, a torn tail."""

import re

import pytest
from integration.conftest import converged, freeze
from integration.waiting import eventually

from agentkeeper.launcher import LocalCluster
from chaos.backends.damage import flip, tear, wipe

from .load import Load

SMALL_SNAPSHOTS = ("--snapshot-entries", "200")


@pytest.fixture(scope="module")
def cluster():
    """Three replicas that have stored snapshots and entries after them; whole before each test."""
    with LocalCluster(replicas=3, extra_args=SMALL_SNAPSHOTS) as cluster:
        with Load(cluster, 0) as load:
            for node in cluster.nodes.values():
                eventually(lambda node=node: (node.data_dir / "snapshot").exists(), "a snapshot")
            load.finish()
        yield cluster


@pytest.fixture
def stopped(cluster):
    """A follower that was killed, its disk perhaps behind, never damaged."""
    cluster.wait_ready()
    follower = cluster.followers()[0]
    with Load(cluster, 0) as load:
        load.await_more(3, "entries in its journal")
        follower.kill()
        load.finish()
    return follower


def newest_segment(node):
    return max(node.data_dir.glob("0*.log"))


def files_of(node):
    return {
        "journal": newest_segment(node),
        "snapshot": node.data_dir / "snapshot",
        "identity": node.data_dir / "identity.json",
    }


def others_of(cluster, node):
    return [other for other in cluster.nodes.values() if other is not node]


def check_serves_and_counts(cluster, node):
    """It has caught up, and is needed when another one is down."""
    cluster.wait_ready()
    with Load(cluster, 0) as load:
        other = others_of(cluster, node)[0]
        freeze(other)
        load.await_more(3, f"everybody goes on by {node}")
        other.resume()
        cluster.wait_ready()
        load.finish()
    assert converged(cluster)


@pytest.mark.parametrize("what", ["journal", "snapshot", "identity"])
def test_a_flipped_byte_keeps_a_replica_from_starting_until_it_is_wiped(
    cluster, stopped, rng, what
):
    file = files_of(stopped)[what]
    size_bytes = file.stat().st_size
    flip(file, rng.randrange(size_bytes // 4, size_bytes * 3 // 4))
    stopped.start()
    eventually(lambda: not stopped.running, "its end", 60)
    assert stopped.exit_code > 0
    said = stopped.log_tail().splitlines()[-1]
    print(said)
    assert str(file) in said
    assert re.search(r"(byte|offset) \d+", said)
    assert "remove (or move away) the whole data folder" in said
    cluster.wait_ready(nodes=others_of(cluster, stopped))

    wipe(stopped)
    stopped.start()
    check_serves_and_counts(cluster, stopped)


def test_one_damaged_copy_of_the_ballot_is_made_good(cluster, stopped):
    ballot = stopped.data_dir / "ballot"
    intact = ballot.read_bytes()
    for copy_start in (0, len(intact) // 2):
        for offset in range(64):
            flip(ballot, copy_start + offset)
        stopped.start()
        cluster.wait_ready()
        stopped.kill()
    stopped.start()
    check_serves_and_counts(cluster, stopped)


def test_a_ballot_of_which_nothing_is_left_keeps_a_replica_from_starting(cluster, stopped):
    ballot = stopped.data_dir / "ballot"
    size_bytes = ballot.stat().st_size
    for copy_start in (0, size_bytes // 2):
        for offset in range(64):
            flip(ballot, copy_start + offset)
    stopped.start()
    eventually(lambda: not stopped.running, "its end", 60)
    assert stopped.exit_code > 0
    said = stopped.log_tail().splitlines()[-1]
    print(said)
    assert str(ballot) in said
    assert "remove (or move away) the whole data folder" in said
    wipe(stopped)
    stopped.start()
    check_serves_and_counts(cluster, stopped)


def test_a_torn_tail_is_cut_off_and_made_good(cluster, stopped, rng):
    for cut_bytes in (1, rng.randint(2, 2_000)):
        journal = newest_segment(stopped)
        tear(journal, cut_bytes)
        told_bytes = stopped.log_path.stat().st_size
        stopped.start()
        cluster.wait_ready()
        if cut_bytes == 1:  # more of them may be whole entries
            told = stopped.log_path.read_text()[told_bytes:]
            assert [
                line
                for line in told.splitlines()
                if "within a record" in line and str(journal) in line
            ]
        stopped.kill()
    stopped.start()
    check_serves_and_counts(cluster, stopped)
