"""The leader is killed, or stands still, in the middle of writes, reads and watches."""

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods

from .conftest import client_at, converged, freeze, heal
from .load import Load
from .waiting import PATIENCE_S, Recorder, eventually
from .wire import UNAVAILABLE, payload_of, refused

HURTS = ["kill", "pause"]


def others(cluster, node):
    return [other for other in cluster.nodes.values() if other is not node]


def await_new_leader(cluster, old):
    def look():
        leader = cluster.find_leader()
        return leader if leader is not old else None

    return eventually(look, "another leader")


def wound(cluster, leader, how):
    """Kill or pause the leader, and wait for the next one."""
    if how == "pause":
        freeze(leader)
    else:
        leader.kill()
    return await_new_leader(cluster, leader)


def last_sequence(wire):
    return int(wire.watch_all().headers["agentkeeper-sequence"])


@pytest.mark.parametrize("how", HURTS)
def test_no_acknowledged_write_is_lost_or_done_twice(rough, wire, how):
    leader = rough.leader()
    wires = [wire(node) for node in rough.nodes.values()]
    after, term = last_sequence(wires[0]), wires[0].status().term
    with Load(rough, leader) as load:
        eventually(lambda: load.more(20), "writes before")
        wound(rough, leader, how)
        eventually(lambda: load.more(20), "writes after")
        heal(rough)
        eventually(lambda: load.more(20), "writes in the end")
    assert converged(rough)
    load.check([wire(node) for node in rough.nodes.values()], after)
    statuses = [wire.status() for wire in map(wire, rough.nodes.values())]
    assert len({status.term for status in statuses}) == 1
    assert statuses[0].term > term


def test_a_follower_that_is_lost_disturbs_nobody_and_catches_up(rough, wire):
    follower, _ = rough.followers()
    term = wire(follower).status().term
    after = last_sequence(wire(follower))
    with Load(rough, follower) as load:
        eventually(lambda: load.more(20), "writes before")
        follower.kill()
        eventually(lambda: load.more(20), "writes without it")
        heal(rough)
        eventually(lambda: load.more(20), "writes with it again")
    assert converged(rough)
    load.check([wire(node) for node in rough.nodes.values()], after)
    assert {wire(node).status().term for node in rough.nodes.values()} == {term}


def test_a_leader_that_stood_still_answers_nothing_as_if_it_led(rough, wire, name):
    leader = rough.leader()
    old, subject = wire(leader), name("subject")
    term = old.status().term
    old.set_policy(name("policy"), subject)
    assert old.check(subject).allowed
    new = wire(wound(rough, leader, "pause"))
    new.set_policy(name("policy"), subject, pb.POLICY_EFFECT_DENY)
    request = pb.CheckPolicyRequest(subject=subject, action="do", resource="anything")

    def ask():
        return old.begin(methods.CHECK_POLICY, request)

    reads = [ask() for _ in range(20)]
    leader.resume()
    reads += [ask() for _ in range(20)]
    for read in reads:
        if read.exception(PATIENCE_S) is None:
            assert not read.result().allowed, "it read what had been overwritten"
        else:
            with refused(UNAVAILABLE):
                read.result()
    rejoined = eventually(lambda: old.status().leader_node_id and old.status(), "its leader")
    assert rejoined.role == pb.REPLICA_ROLE_FOLLOWER
    assert rejoined.term > term


def test_writes_a_paused_leader_took_are_neither_lost_nor_doubled(rough, wire, name):
    leader = rough.leader()
    old = wire(leader)
    session = old.open_session()
    watch = old.watch_all("task.created")
    after = int(watch.headers["agentkeeper-sequence"])
    requests = [
        (pb.CreateTaskRequest(type=name(f"task{i}"), required_tools=["x"]), session.metadata())
        for i in range(20)
    ]
    freeze(leader)
    taken = [old.begin(methods.CREATE_TASK, r, **metadata) for r, metadata in requests]
    new = wire(await_new_leader(rough, leader))
    answers = [new.call(methods.CREATE_TASK, r, **metadata).task for r, metadata in requests[:10]]
    leader.resume()
    first_half, second_half = taken[:10], taken[10:]
    assert [call.result(PATIENCE_S).task.id for call in first_half] == [t.id for t in answers]
    for call, (request, metadata) in zip(second_half, requests[10:], strict=True):
        again = new.call(methods.CREATE_TASK, request, **metadata).task
        assert call.result(PATIENCE_S).task.id == again.id
    created = new.watch_all("task.created", after=after)
    types = [name(f"task{i}") for i in range(20)]
    eventually(lambda: len(created.events) >= 20, "their events")
    assert sorted(payload_of(e).task.type for e in created.events) == sorted(types)


@pytest.mark.parametrize("how", HURTS)
def test_watches_go_on_elsewhere_without_gap_or_repeat(rough, wire, name, how):
    leader = rough.leader()
    rest = others(rough, leader)
    via = wire(rest[0])
    group, one, two = name("group"), via.register(name("one")), via.register(name("two"))
    for agent_id in (one, two):
        via.call(methods.CAMPAIGN, pb.CampaignRequest(group=group, agent_id=agent_id))
    after = last_sequence(via)
    seen, quiet, states = Recorder(), Recorder(), Recorder()
    with client_at(rough, leader) as client:
        client.watch([], seen, after=after)  # agents of other tests may die just now
        client.watch(["agent.died"], quiet)
        client.watch_election(group, states)
        states.first(lambda state: state.leader_agent_id == one, "the present leader")
        with Load(rough, rest[0], writers=2) as load:
            eventually(lambda: load.more(10), "writes before")
            wound(rough, leader, how)
            via.call(methods.DEREGISTER, pb.DeregisterRequest(agent_id=one))
            eventually(lambda: load.more(10), "writes after")
        via.set_policy(name("last"))
        seen.first(lambda e: e.topic == "policy.set" and e.payload.id == name("last"), "the last")
        quiet.first(lambda event: event.payload.agent_id == one, "a death while nobody was watched")
        states.first(lambda state: state.leader_agent_id == two, "the next leader")
    numbers = [event.sequence for event in seen.kept]
    assert numbers == list(range(after + 1, after + 1 + len(numbers)))
    assert [state.term for state in states.kept] == [1, 2]
    assert len([event for event in quiet.kept if event.payload.agent_id == one]) == 1


def test_a_raw_watch_on_a_killed_leader_is_resumed_by_its_last_number(rough, wire, name):
    leader = rough.leader()
    watch = wire(leader).watch_all()
    begin = int(watch.headers["agentkeeper-sequence"])
    via = wire(others(rough, leader)[0])
    for i in range(10):
        via.set_policy(name(f"before{i}"))
    wound(rough, leader, "kill")
    assert watch.ended().code() is UNAVAILABLE
    last = watch.sequences[-1] if watch.sequences else begin
    via.set_policy(name("after"))
    resumed = via.watch_all(after=last)
    resumed.wait_for("policy.set", name("after"))
    numbers = watch.sequences + resumed.sequences
    assert numbers == list(range(begin + 1, begin + 1 + len(numbers)))
    assert numbers[-1] >= begin + 11
