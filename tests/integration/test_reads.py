"""Reads, linearizable and stale, and what a replica says about itself."""

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods

from .conftest import converged
from .waiting import PATIENCE_S
from .wire import INVALID_ARGUMENT, refused

STALE = {"agentkeeper-consistency": "stale"}


def index_of(call):
    """The log index that an answer reflects."""
    call.result(PATIENCE_S)
    return int(dict(call.trailing_metadata())["agentkeeper-index"])


def test_what_one_replica_acknowledged_every_other_reads(cluster, here, wire, name):
    wires = [wire(node) for node in cluster.nodes.values()]
    for i in range(20):
        policy = here.set_policy(name("policy"), name(f"subject{i}"))
        for other in wires:
            assert other.check(policy.subject).allowed


def test_a_stale_read_reflects_the_index_it_asks_for(here, there, name):
    for i in range(20):
        subject = name(f"subject{i}")
        policy = pb.Policy(id=name("policy"), subject=subject, action="do", resource="*", effect=1)
        call = here.begin(methods.SET_POLICY, pb.SetPolicyRequest(policy=policy))
        index = index_of(call)
        answer = there.check(subject, **STALE, **{"agentkeeper-min-index": str(index)})
        assert answer.allowed


def test_an_unknown_consistency_is_bad_input(here):
    with refused(INVALID_ARGUMENT) as told:
        here.check("somebody", **{"agentkeeper-consistency": "eventual"})
    assert told["agentkeeper-field"] == "agentkeeper-consistency"


def test_refusals_name_the_leader(cluster, here):
    with refused(INVALID_ARGUMENT) as told:
        here.check("")
    assert told["agentkeeper-leader"] == cluster.leader().endpoint


def test_status_tells_role_peers_and_indexes(cluster, here):
    status, leader = here.status(), cluster.leader()
    leads = here.endpoint == leader.endpoint
    assert status.role == (pb.REPLICA_ROLE_LEADER if leads else pb.REPLICA_ROLE_FOLLOWER)
    assert (status.leader_node_id, status.leader_endpoint) == (leader.name, leader.endpoint)
    assert {(r.node_id, r.endpoint) for r in status.replicas} == {
        (node.name, node.endpoint) for node in cluster.nodes.values()
    }
    assert status.term > 0
    assert status.not_ready_reason == ""
    assert status.applied_index <= status.commit_index <= status.last_log_index
    if leads:
        others = [r for r in status.replicas if r.node_id != status.node_id]
        assert all(r.connected and r.match_index > 0 for r in others)


def test_all_replicas_have_one_digest(cluster):
    assert converged(cluster)
