"""SIGTERM: new calls are refused, those under way finished, leadership is handed on."""

import json

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods

from .conftest import await_calls, calls_of, converged, freeze, heal
from .load import Load
from .test_leader_loss import last_sequence, others
from .waiting import PATIENCE_S, eventually
from .wire import UNAVAILABLE, refused


def await_exit(node):
    eventually(lambda: not node.running, "its end")
    return node.exit_code


def logged(node, event):
    lines = map(json.loads, node.log_path.read_text().splitlines())
    return [line for line in lines if line["event"] == event]


def test_a_leader_stops_under_load_and_nobody_notices(rough, wire):
    leader = rough.leader()
    wires = [wire(node) for node in rough.nodes.values()]
    after, term = last_sequence(wires[0]), wires[0].status().term
    with Load(rough, leader) as load:
        eventually(lambda: load.more(20), "writes before")
        leader.request_stop()
        assert await_exit(leader) == 0
        eventually(lambda: load.more(20), "writes after")
    assert load.unknown == []
    last = logged(leader, "role changed")[-1]
    assert (last["role"], last["term"]) == ("follower", term + 1), "it handed leadership on"
    assert rough.leader().status().term == term + 1
    heal(rough)
    assert converged(rough)
    load.check([wire(node) for node in rough.nodes.values()], after)


def test_a_follower_stops_and_the_leader_leads_on(rough, wire):
    leader, follower = rough.leader(), rough.followers()[0]
    term = wire(leader).status().term
    follower.request_stop()
    assert await_exit(follower) == 0
    heal(rough)
    assert rough.leader() is leader
    assert wire(leader).status().term == term


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_watches_and_blocked_calls_end_definitely(rough, wire, name, role):
    node = rough.leader() if role == "leader" else rough.followers()[0]
    via, elsewhere = wire(node), wire(others(rough, node)[0])
    holder, waiter = (elsewhere.register(name(stem), name("tool")) for stem in ("one", "two"))
    lease = elsewhere.acquire(name("key"), holder).lease
    watch = via.watch_all()
    election = via.watch(methods.WATCH_ELECTION, pb.WatchElectionRequest(group=name("group")))
    claims, waits = calls_of(node, "ClaimTask"), calls_of(node, "AcquireLease")
    claim = via.begin(methods.CLAIM_TASK, pb.ClaimTaskRequest(agent_id=waiter))
    wait = via.begin(
        methods.ACQUIRE_LEASE,
        pb.AcquireLeaseRequest(task_id=name("key"), agent_id=waiter, wait_ms=60_000),
    )
    await_calls(node, "ClaimTask", claims + 1)
    await_calls(node, "AcquireLease", waits + 1)
    via.set_policy(name("behind them"))
    node.request_stop()
    for end in (
        lambda: claim.result(PATIENCE_S),
        lambda: wait.result(PATIENCE_S),
        lambda: raise_(watch.ended()),
        lambda: raise_(election.ended()),
    ):
        with refused(UNAVAILABLE, reason="shutting_down"):
            end()
    assert await_exit(node) == 0
    task = elsewhere.create_task("sum", name("tool"))
    request = pb.ClaimTaskRequest(agent_id=holder)
    assert elsewhere.call(methods.CLAIM_TASK, request).task.id == task.id
    elsewhere.release(lease)


def raise_(error):
    raise error


def test_calls_under_way_are_finished_and_new_ones_refused(rough, wire, name):
    leader, followers = rough.leader(), rough.followers()
    via = wire(leader)
    via.check("somebody")
    for follower in followers:
        freeze(follower)
    before = calls_of(leader, "CreateTask")
    write = via.begin(
        methods.CREATE_TASK, pb.CreateTaskRequest(type=name("task"), required_tools=["x"])
    )
    await_calls(leader, "CreateTask", before + 1)
    stops = len(logged(leader, "stopping"))
    leader.request_stop()
    eventually(lambda: len(logged(leader, "stopping")) > stops, "that it is about to stop")
    with refused(UNAVAILABLE, reason="shutting_down"):
        via.check("somebody")
    for follower in followers:
        follower.resume()
    task = write.result(PATIENCE_S).task
    assert await_exit(leader) == 0
    rough.wait_ready(nodes=followers)
    for follower in followers:
        assert wire(follower).get_task(task.id).type == name("task")
