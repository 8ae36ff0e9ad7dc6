"""The leader is killed, or stands still, while calls wait on it: for leases and for tasks."""

import pytest

from .conftest import await_calls, calls_of, client_at, heal
from .test_leader_loss import HURTS, others, wound
from .waiting import PATIENCE_S, background, eventually
from .wire import payload_of


@pytest.mark.parametrize("how", HURTS)
def test_a_place_in_line_survives_its_replica(rough, wire, name, how):
    leader = rough.leader()
    rest = others(rough, leader)
    via, key = wire(rest[0]), name("key")
    holder, first, second = (via.register(name(stem)) for stem in ("a", "b", "c"))
    lease = via.acquire(key, holder).lease
    counts = {node: calls_of(node, "AcquireLease") for node in rough.nodes.values()}
    with client_at(rough, leader) as client, client_at(rough, rest[1]) as other_client:
        waiting = background(client.acquire_lease, key, first, ttl=600, wait=60)
        await_calls(leader, "AcquireLease", counts[leader] + 1)
        wire(leader).set_policy(name("after"))  # behind it: so it is in line
        wound(rough, leader, how)
        eventually(
            lambda: sum(calls_of(node, "AcquireLease") - counts[node] for node in rest) >= 1,
            "the waiter elsewhere",
        )
        behind = background(other_client.acquire_lease, key, second, ttl=600, wait=60)
        eventually(
            lambda: sum(calls_of(node, "AcquireLease") - counts[node] for node in rest) >= 2,
            "another waiter",
        )
        via.release(lease)
        handle = waiting.result(PATIENCE_S)
        assert handle.lease.holder_agent_id == first
        assert not behind.done()
        handle.release()
        assert behind.result(PATIENCE_S).lease.holder_agent_id == second
        heal(rough)
        assert not via.acquire(key, first).acquired, "nobody took it from its holder"


@pytest.mark.parametrize("how", HURTS)
def test_a_blocked_claim_survives_its_replica(rough, wire, name, how):
    leader = rough.leader()
    rest = others(rough, leader)
    via, tool = wire(rest[0]), name("tool")
    agent_id = via.register(name("worker"), tool)
    watch = via.watch_all("task.")
    counts = {node: calls_of(node, "ClaimTask") for node in rough.nodes.values()}
    with client_at(rough, leader) as client:
        waiting = background(client.claim_task, agent_id)
        await_calls(leader, "ClaimTask", counts[leader] + 1)
        wound(rough, leader, how)
        eventually(
            lambda: sum(calls_of(node, "ClaimTask") - counts[node] for node in rest) >= 1,
            "the claim elsewhere",
        )
        task = via.create_task("sum", tool, ttl_seconds=600)
        claimed = waiting.result(PATIENCE_S)
        assert claimed.id == task.id
        heal(rough)
        client.complete_task(claimed.id, agent_id, b"done")
    watch.wait_for("task.completed", task.id)
    topics = [e.topic for e in watch.events if payload_of(e).task.id == task.id]
    assert topics == ["task.created", "task.claimed", "task.completed"]
