"""Five replicas serve without two of them, refuse without three, and have lost nothing after."""

import pytest

from agentkeeper._pb import agentkeeper_pb2 as pb
from agentkeeper.client import methods
from agentkeeper.launcher import LocalCluster

from .conftest import converged
from .story import go_on, play, recall
from .waiting import PATIENCE_S, eventually
from .wire import UNAVAILABLE, refused, said

STALE = {"agentkeeper-consistency": "stale"}


@pytest.fixture(scope="module")
def five():
    with LocalCluster(replicas=5) as cluster:
        yield cluster


def set_policy(wire, id):
    policy = pb.Policy(id=id, subject=id, action="do", resource="*", effect=1)
    return wire.begin(methods.SET_POLICY, pb.SetPolicyRequest(policy=policy))


class Refusals:
    """What replicas without a majority are asked, all at once, and how they answer."""

    def __init__(self, wires, name, subject):
        request = pb.CheckPolicyRequest(subject=subject, action="do", resource="anything")
        ids = {name(f"{i}-{n}"): w for i, w in enumerate(wires) for n in range(5)}
        self.writes = {id: set_policy(w, id) for id, w in ids.items()}
        self.reads = [w.begin(methods.CHECK_POLICY, request) for w in wires]
        self.stale = [w.begin(methods.CHECK_POLICY, request, **STALE) for w in wires]
        ahead = {**STALE, "agentkeeper-min-index": str(10**9)}
        self.ahead = [w.begin(methods.CHECK_POLICY, request, **ahead) for w in wires]

    def check(self):
        """Nothing is written; returns the ids of policies that certainly never will be."""
        for answer in self.stale:
            assert answer.result(PATIENCE_S).allowed
        for read in self.reads:
            with refused(UNAVAILABLE):
                read.result(PATIENCE_S)
        for read in self.ahead:
            with refused(UNAVAILABLE, reason="behind"):
                read.result(PATIENCE_S)
        never = []
        for id, write in self.writes.items():
            error = write.exception(PATIENCE_S)
            assert error is not None
            assert error.code() is UNAVAILABLE
            definite = said(error)["agentkeeper-definite"]
            assert definite in ("true", "false")
            if definite == "true":
                never.append(id)
        return never


def test_five_without_two_serve_everything_and_without_three_refuse(five, wire, name):
    leader = five.leader()
    first, second, third, last = five.followers()
    before = play(wire(first))
    leader.kill()
    first.kill()
    five.wait_ready(nodes=[second, third, last])
    wires = [wire(node) for node in (second, third, last)]
    for w in wires:
        recall(w, before)
    for w in wires:
        go_on(w, play(w))
    story = play(wires[0])

    third_lost = five.leader() if five.leader() is not last else second
    survivors = [wire(n) for n in five.nodes.values() if n.running and n is not third_lost]
    watch = survivors[0].watch_all()
    third_lost.kill()
    for w in survivors:
        node = next(n for n in five.nodes.values() if n.endpoint == w.endpoint)
        eventually(lambda node=node: node.unready_reason(), "not ready")
    never = Refusals(survivors, name, story.name("subject")).check()
    with refused(UNAVAILABLE, reason="no_leader"):
        raise watch.ended()

    first.start()
    five.wait_ready(nodes=[n for n in five.nodes.values() if n.running])
    for node in (first, last):
        w = wire(node)
        recall(w, story)
        assert [id for id in never if w.check(id).allowed] == [], "refused for certain, yet done"
    five.start()
    five.wait_ready()
    assert converged(five)
    go_on(wire(leader), story)
