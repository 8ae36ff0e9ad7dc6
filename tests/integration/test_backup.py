"""The state saved from a live cluster, and made the beginning of new ones."""

import shutil

import pytest

from agentkeeper import errors
from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods
from agentkeeper.launcher import LocalCluster
from agentkeeper.server.restore import RestoreError, restore, verify

from .callers import Callers
from .conftest import converged
from .waiting import Recorder, eventually

EXACT = 2**53


def peers_of(cluster):
    """The addresses of a cluster's replicas, as they are told by its first one's command line."""
    command = cluster.nodes["a"].command
    listed = command[command.index("--peers") + 1]
    return dict(part.split("=", 1) for part in listed.split(","))


def restored_cluster(file, folder, names="abc"):
    """A cluster whose replicas `names` are restored from a file; the others begin empty."""
    cluster = LocalCluster(replicas=3, data_dir=folder)
    for name in names:
        node = cluster.nodes[name]
        restore(file, data_dir=node.data_dir, node_id=name, peers=peers_of(cluster))
    return cluster


def await_calls(callers, count):
    wanted = callers.total + count
    eventually(lambda: callers.total >= wanted or callers.failures, f"{count} more calls")
    assert callers.failures == []


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The file of a cluster that went on after it was saved, and what that told."""
    file = tmp_path_factory.mktemp("saved") / "snapshot"
    with LocalCluster(replicas=3) as cluster:
        with cluster.client() as client, Callers(cluster) as callers:
            agent = client.register("keeper", "Keeps", "1", ttl=3600)
            client.set_policy("may-call", "keeper", "call", "tool:*", "ALLOW")
            task = client.create_task("index", b"input", required_tools=["nobody has it"])
            lease = client.acquire_lease("deploy", agent.agent_id, ttl=3600)
            client.campaign("east", agent.agent_id)
            await_calls(callers, 200)
            snapshot = client.save_snapshot(file)
            await_calls(callers, 200)
            later = client.acquire_lease("later", agent.agent_id, ttl=3600)
            term = client.campaign("west", agent.agent_id).term
            highest = max(later.lease.token, *callers.tokens)
        last = max(status.applied_index for status in cluster.statuses().values())
        assert snapshot.log_index < last
        yield (
            file,
            {
                "agent": agent.agent_id,
                "task": task.id,
                "lease": lease.lease.token,
                "token": highest,
                "term": term,
            },
        )


def test_a_new_cluster_goes_on_from_a_file_above_all_that_was_ever_given_out(saved, tmp_path):
    file, told = saved
    contents = verify(file)
    assert contents.counts.leases >= 1
    assert contents.epoch == 0
    given = []
    for life in ("second", "third"):
        with restored_cluster(file, tmp_path / life) as cluster, cluster.client() as client:
            assert client.check_policy("keeper", "call", "tool:x")
            assert client.get_task(told["task"]).input == b"input"
            assert client.get_agent(told["agent"]).card.name == "keeper"
            assert client.verify_token("deploy", told["lease"])
            with pytest.raises(errors.NotFound):
                client.get_lease("later")
            token = client.acquire_lease("new", told["agent"], ttl=60).lease.token
            term = client.campaign("west", told["agent"]).term
            assert told["token"] < token < EXACT
            assert told["term"] < term < EXACT
            assert client.campaign("east", told["agent"]).term > told["term"]
            given.append((token, term))
            assert converged(cluster)
            with Callers(cluster, 2) as callers:
                await_calls(callers, 50)
            assert min(callers.tokens) > token
    assert given[0][0] < given[1][0]
    assert given[0][1] < given[1][1]


def test_a_watch_of_the_former_cluster_is_told_of_its_gap(saved, tmp_path):
    file, _ = saved
    seen, gaps = Recorder(), Recorder()
    with restored_cluster(file, tmp_path / "second") as cluster, cluster.client() as client:
        after = verify(file).last_sequence + 50  # it had seen more than the file has
        watch = client.watch(["policy."], seen, after=after, on_gap=gaps)
        with pytest.raises(errors.Compacted):
            client.watch(["policy."], seen, after=after)
        eventually(lambda: gaps.kept, "the gap")
        client.set_policy("another", "keeper", "read", "*", "ALLOW")
        event = seen.first(lambda event: event.topic == "policy.set", "the new policy")
        assert event.sequence > after
        watch.cancel()


def test_one_left_empty_joins_the_others_once_they_have_begun(saved, tmp_path):
    file, told = saved
    cluster = restored_cluster(file, tmp_path / "second", "bc")
    for name in "bc":
        cluster.nodes[name].command.append("--bootstrap")
    with cluster, cluster.client() as client:
        assert client.get_agent(told["agent"]).card.name == "keeper"
        assert converged(cluster)
        assert "does not vote" not in cluster.nodes["a"].unready_reason()


def test_replicas_restored_from_different_files_say_so(saved, tmp_path):
    file, _ = saved
    with LocalCluster(replicas=1, data_dir=tmp_path / "other") as other, other.client() as client:
        client.set_policy("may-call", "keeper", "call", "tool:*", "DENY")
        client.save_snapshot(tmp_path / "other file")
    cluster = restored_cluster(file, tmp_path / "second", "ab")
    node = cluster.nodes["c"]
    restore(tmp_path / "other file", data_dir=node.data_dir, node_id="c", peers=peers_of(cluster))
    try:
        for node in cluster.nodes.values():
            node.start()
        for name, others in (("a", "c"), ("b", "c"), ("c", "a, b")):
            reason = f"another file than {others}: restore all"
            node = cluster.nodes[name]
            eventually(lambda node=node, reason=reason: reason in node.unready_reason(), reason)
    finally:
        cluster.close()


def test_one_restored_beside_a_cluster_that_lives_stops_and_says_what_to_do(saved, tmp_path):
    file, _ = saved
    with LocalCluster(replicas=3, data_dir=tmp_path / "living") as cluster:
        node = cluster.followers()[0]
        assert node.terminate() == 0
        shutil.rmtree(node.data_dir)
        restore(file, data_dir=node.data_dir, node_id=node.name, peers=peers_of(cluster))
        node.start()
        eventually(lambda: not node.running, "its end")
        assert node.exit_code == 1
        assert "restored from a snapshot, but the cluster of replica" in node.log_tail()
        shutil.rmtree(node.data_dir)
        node.start()
        cluster.wait_ready()
        assert converged(cluster)


def test_what_cannot_be_restored_is_refused(saved, tmp_path):
    file, _ = saved
    used = tmp_path / "used"
    restore(file, data_dir=used, node_id="a")
    with pytest.raises(RestoreError, match="not empty"):
        restore(file, data_dir=used, node_id="a")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    damaged = tmp_path / "damaged"
    damaged.write_bytes(data)
    for read in (verify, lambda path: restore(path, data_dir=tmp_path / "x", node_id="a")):
        with pytest.raises(RestoreError, match="checksum"):
            read(damaged)
        with pytest.raises(RestoreError, match="can't read"):
            read(tmp_path / "nothing")
    assert not (tmp_path / "x").exists()


def test_a_dead_replica_is_replaced_by_an_empty_one_while_the_others_work():
    with LocalCluster(replicas=3) as cluster, Callers(cluster) as callers:
        await_calls(callers, 100)
        for node in (cluster.leader(), cluster.followers()[0]):
            node.kill()
            shutil.rmtree(node.data_dir)
            await_calls(callers, 100)
            node.start()
            cluster.wait_ready()
            eventually(lambda node=node: not node.unready_reason(), "its vote")
            await_calls(callers, 100)
        print(f"{callers.total} calls, {len(callers.failures)} failed")
    assert callers.failures == []
    assert callers.total > 500


def test_the_last_one_that_runs_saves_what_it_has(tmp_path, wire):
    """A majority of disks is lost: nothing is linearizable any more, but a stale copy is there."""
    file = tmp_path / "saved"
    with LocalCluster(replicas=3) as cluster:
        with Callers(cluster) as callers:
            await_calls(callers, 100)
        assert converged(cluster)
        survivor = cluster.followers()[0]
        for node in cluster.nodes.values():
            if node is not survivor:
                node.kill()
        eventually(survivor.unready_reason, "that it has no leader")
        saved = wire(survivor).stream(
            methods.SAVE_SNAPSHOT, pb.SaveSnapshotRequest(), agentkeeper_consistency="stale"
        )
        file.write_bytes(b"".join(piece.data for piece in saved))
    with restored_cluster(file, tmp_path / "second") as cluster, cluster.client() as client:
        known = {task.type for task in client.list_tasks()}
        assert len(known) == callers.calls["create_task"]
        agent = client.register("new", "New", "1").agent_id
        assert client.acquire_lease("new", agent).lease.token > max(callers.tokens)
