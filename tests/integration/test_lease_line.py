"""Waiting in line for a lease: first come first served, whichever replicas the waiters use."""

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods

from .conftest import await_calls, calls_of, freeze
from .waiting import PATIENCE_S, eventually
from .wire import NOT_FOUND, payload_of, refused

WAIT_MS = 60_000


class Line:
    """Puts agents in line for one lease, one after the other, each by way of some replica."""

    def __init__(self, cluster, wire, key):
        self.key = key
        self.nodes = list(cluster.nodes.values())
        self.wires = {node: wire(node) for node in self.nodes}

    def join(self, node, agent_id, wait_ms=WAIT_MS, **metadata):
        """Begin to wait; the replica has the agent in line on return."""
        before = calls_of(node, "AcquireLease")
        request = pb.AcquireLeaseRequest(
            task_id=self.key, agent_id=agent_id, ttl_seconds=600, wait_ms=wait_ms
        )
        metadata = metadata or self.wires[node].open_session().metadata()
        call = self.wires[node].begin(methods.ACQUIRE_LEASE, request, **metadata)
        await_calls(node, "AcquireLease", before + 1)
        # What a replica is asked later gets into the log later.
        self.wires[node].set_policy(f"after-{agent_id}")
        return call


@pytest.fixture
def line(cluster, wire, name):
    return Line(cluster, wire, name("key"))


def granted(call):
    answer = call.result(PATIENCE_S)
    assert answer.acquired
    return answer.lease


@pytest.fixture
def agents(here, name):
    return [here.register(name(f"agent{i}")) for i in range(4)]


def test_waiters_on_different_replicas_are_served_in_order(line, here, agents):
    holder, *waiters = agents
    lease = here.acquire(line.key, holder).lease
    calls = [line.join(node, agent) for node, agent in zip(line.nodes, waiters, strict=True)]
    for agent, call in zip(waiters, calls, strict=True):
        assert not call.done()
        here.release(lease)
        token = lease.token.value
        lease = granted(call)
        assert lease.holder_agent_id == agent
        assert lease.token.value > token
        assert lease.ttl_seconds == 600


def test_a_wait_ends_with_the_present_holder_untouched(line, here, agents):
    lease = here.acquire(line.key, agents[0]).lease
    answer = line.join(line.nodes[0], agents[1], wait_ms=200).result(PATIENCE_S)
    assert not answer.acquired
    here.release(lease)
    eventually(lambda: here.acquire(line.key, agents[2]).acquired, "nobody in line any more")


def test_a_call_without_a_session_waits_too(line, here, agents):
    lease = here.acquire(line.key, agents[0]).lease
    request = pb.AcquireLeaseRequest(
        task_id=line.key, agent_id=agents[1], ttl_seconds=600, wait_ms=WAIT_MS
    )
    before = sum(calls_of(node, "AcquireLease") for node in line.nodes)
    call = here.begin(methods.ACQUIRE_LEASE, request)
    node = next(node for node in line.nodes if node.endpoint == here.endpoint)
    await_calls(node, "AcquireLease", 1)
    assert sum(calls_of(node, "AcquireLease") for node in line.nodes) >= before
    here.release(lease)
    assert granted(call).holder_agent_id == agents[1]


def topics_until_granted(watch, key, holder):
    """What happened to a lease until `holder` was granted it."""

    def grant():
        return next((e for e in watch.events if about(e) == (key, holder)), None)

    def about(event):
        lease = payload_of(event)
        return lease.task_id, lease.holder_agent_id

    last = eventually(grant, f"{key} granted to {holder}")
    return [
        event.topic
        for event in list(watch.events)
        if event.sequence_number <= last.sequence_number and about(event)[0] == key
    ]


@pytest.mark.parametrize("with_session", [True, False])
def test_a_cancelled_wait_is_withdrawn(line, here, agents, with_session):
    holder, leaving, staying, _ = agents
    lease = here.acquire(line.key, holder).lease
    metadata = line.wires[line.nodes[0]].open_session().metadata() if with_session else {}
    first = line.join(line.nodes[0], leaving, **metadata)
    second = line.join(line.nodes[1], staying)
    line.wires[line.nodes[0]].cancel(first)
    watch = here.watch_all("lease.expired", "lease.acquired")
    here.release(lease)
    assert granted(second).holder_agent_id == staying
    # If the release was faster than the withdrawal, the leaver was granted it for a moment; but it
    # was taken back at once, and not left to run out.
    assert "lease.expired" not in topics_until_granted(watch, line.key, staying)


def test_a_waiter_that_dies_is_told_and_passed_over(line, here, agents):
    holder, dying, staying, _ = agents
    lease = here.acquire(line.key, holder).lease
    first = line.join(line.nodes[0], dying)
    second = line.join(line.nodes[1], staying)
    here.call(methods.DEREGISTER, pb.DeregisterRequest(agent_id=dying))
    with refused(NOT_FOUND):
        first.result(PATIENCE_S)
    here.release(lease)
    assert granted(second).holder_agent_id == staying


def test_the_death_of_the_holder_serves_the_line(line, here, agents):
    here.acquire(line.key, agents[0])
    call = line.join(line.nodes[2], agents[1])
    here.call(methods.DEREGISTER, pb.DeregisterRequest(agent_id=agents[0]))
    assert granted(call).holder_agent_id == agents[1]


def test_closing_a_session_withdraws_its_waiters(line, here, agents):
    lease = here.acquire(line.key, agents[0]).lease
    session = line.wires[line.nodes[0]].open_session()
    first = line.join(line.nodes[0], agents[1], **session.metadata())
    second = line.join(line.nodes[1], agents[2])
    here.call(methods.CLOSE_SESSION, pb.CloseSessionRequest(session_id=session.session_id))
    here.release(lease)
    assert granted(second).holder_agent_id == agents[2]
    first.cancel()


def test_a_grant_that_nobody_confirms_passes_on(rough, wire, name):
    follower, other = rough.followers()
    line = Line(rough, wire, name("key"))
    via = line.wires[other]
    holder, frozen, staying = (via.register(name(stem)) for stem in ("a", "b", "c"))
    lease = via.acquire(line.key, holder).lease
    first = line.join(follower, frozen)
    second = line.join(other, staying)
    freeze(follower)
    via.release(lease)
    lease = granted(second)
    assert lease.holder_agent_id == staying
    # From the first event on, and not before: a watch ends where a leader is lost meanwhile.
    watch = via.watch_all("lease.", after=0)
    assert payload_of(watch.wait_for("lease.expired", line.key)).reason == "unconfirmed"
    follower.resume()
    via.release(lease)
    assert granted(first).holder_agent_id == frozen, "its wait went on"
