"""The cluster clock: it stands still while there is no leader, or while the leader stood still."""

import time

import grpc
import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods
from agentkeeper.launcher import LocalCluster

from .conftest import heal
from .waiting import eventually

TTL_S = 2
LONGER_S = 3.5


def first_answer(wire, key, agent_id):
    """Ask for the lease until somebody can say who has it."""

    def ask():
        try:
            return wire.acquire(key, agent_id)
        except grpc.RpcError:
            return None

    return eventually(ask, "an answer")


def lose_followers(cluster):
    return cluster.followers()


def lose_leader_and_follower(cluster):
    return [cluster.leader(), cluster.followers()[0]]


@pytest.mark.parametrize(
    ("choose", "how"),
    [
        (lose_followers, "pause"),
        (lose_leader_and_follower, "pause"),
        (lose_leader_and_follower, "kill"),
    ],
)
def test_no_lease_ends_while_there_is_no_leader(rough, wire, name, choose, how):
    lost = choose(rough)
    via = wire(next(node for node in rough.nodes.values() if node not in lost))
    holder, other, key = via.register(name("one")), via.register(name("two")), name("key")
    lease = via.acquire(key, holder, ttl=TTL_S).lease
    for node in lost:
        getattr(node, how)()
    time.sleep(LONGER_S)  # the one thing that is waited for is time itself
    for node in lost:
        node.resume()
    rough.start()
    answer = first_answer(via, key, other)
    assert (answer.acquired, answer.lease.holder_agent_id) == (False, holder)
    heal(rough)
    taken = eventually(lambda: (a := via.acquire(key, other)).acquired and a, "its end")
    assert taken.lease.token.value > lease.token.value


def test_a_daemon_that_stood_still_ends_nothing_it_could_not_hear_of(wire, name):
    with LocalCluster(replicas=1) as cluster:
        node = cluster.nodes["a"]
        via = wire(node)
        agent_id, key = via.register(name("one"), ttl=TTL_S), name("key")
        lease = via.acquire(key, agent_id, ttl=TTL_S).lease
        renew = pb.RenewLeaseRequest(
            task_id=key, agent_id=agent_id, token=lease.token, ttl_seconds=600
        )
        before_ms = via.status().cluster_time_ms
        node.pause()
        time.sleep(LONGER_S)
        node.resume()
        via.call(methods.HEARTBEAT, pb.HeartbeatRequest(agent_id=agent_id))
        renewed = via.call(methods.RENEW_LEASE, renew).lease
        assert renewed.token == lease.token
        assert via.status().cluster_time_ms - before_ms < LONGER_S * 1000
        agent = via.call(methods.GET_AGENT, pb.GetAgentRequest(agent_id=agent_id)).agent
        assert agent.status == pb.AGENT_STATUS_ALIVE


def test_no_lease_ends_over_a_restart_of_all(wire, name):
    with LocalCluster(replicas=1) as cluster:
        node = cluster.nodes["a"]
        via = wire(node)
        one, two, key = via.register(name("one")), via.register(name("two")), name("key")
        via.acquire(key, one, ttl=TTL_S)
        cluster.stop()
        time.sleep(LONGER_S)
        cluster.start()
        cluster.wait_ready()
        via = wire(node)
        answer = via.acquire(key, two)
        assert (answer.acquired, answer.lease.holder_agent_id) == (False, one)
        assert eventually(lambda: via.acquire(key, two).acquired, "its end")
