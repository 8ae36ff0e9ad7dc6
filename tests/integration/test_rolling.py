"""Every replica restarted in turn under load, and not one call of the SDK fails."""

import pytest

from agentkeeper import errors
from agentkeeper.client import AgentKeeperClient
from agentkeeper.launcher import LocalCluster

from .callers import Callers
from .conftest import converged
from .waiting import eventually
from .wire import FAILED_PRECONDITION

EACH = 100
"""Calls that succeed before, between and after what is done to the cluster."""


@pytest.fixture
def rolled():
    """Three replicas that this test alone restarts."""
    with LocalCluster(replicas=3) as cluster:
        yield cluster


def await_calls(callers, count=EACH):
    wanted = callers.total + count
    eventually(lambda: callers.total >= wanted or callers.failures, f"{count} more calls")


def told(callers):
    print(f"{callers.total} calls, {len(callers.failures)} failed: {dict(callers.calls)}")
    assert callers.failures == []


@pytest.mark.parametrize("moving", [False, True], ids=["stopped", "leader moved first"])
def test_a_rolling_restart_fails_no_call(rolled, moving):
    with Callers(rolled) as callers, rolled.client() as operator:
        for node in rolled.nodes.values():
            await_calls(callers)
            if moving and node is rolled.leader():
                moved = operator.move_leader()
                assert moved.leader_node_id != node.name
                assert rolled.leader().name == moved.leader_node_id
            assert node.terminate() == 0
            await_calls(callers)
            node.start()
            rolled.wait_ready()
        await_calls(callers)
    told(callers)
    assert converged(rolled)


def test_the_leader_moves_to_whom_it_is_told_by_way_of_any_replica(rolled, wire):
    with Callers(rolled, 4) as callers, rolled.client() as operator:
        for name in "abcacb":
            await_calls(callers, 20)
            moved = operator.move_leader(name)
            assert moved.leader_node_id == name
            assert rolled.leader().name == name
            assert wire(rolled.nodes[name]).status().term == moved.term
    told(callers)


def test_a_move_that_cannot_be_is_refused_with_its_reason(rolled, wire):
    leader = rolled.leader()
    follower, other = rolled.followers()
    with rolled.client() as operator:
        with pytest.raises(errors.Refused, match="no replica 'nobody'") as refused:
            operator.move_leader("nobody")
        assert refused.value.code() == FAILED_PRECONDITION
        assert operator.move_leader(leader.name).leader_node_id == leader.name
        other.kill()
        with pytest.raises(errors.Refused, match=f"{other.name}' is not connected"):
            operator.move_leader(other.name)
        assert rolled.leader() is leader
        assert operator.move_leader().leader_node_id == follower.name


def test_a_move_to_one_that_is_paused_stops_nothing(rolled):
    leader = rolled.leader()
    healthy, paused = rolled.followers()
    with Callers(rolled) as callers, rolled.client() as operator:
        with AgentKeeperClient(endpoints=[healthy.endpoint]) as follower:
            await_calls(callers, 20)
            paused.pause()
            try:
                with pytest.raises(errors.Refused, match="no answer") as refused:
                    operator.move_leader(paused.name)
                for number in range(20):
                    # Far below what a forwarded write takes that was lost on its way.
                    follower.set_policy(f"p{number}", "s", "a", "r", "ALLOW", timeout=3.0)
            finally:
                paused.resume()
        assert refused.value.code() == FAILED_PRECONDITION
        await_calls(callers)
        assert rolled.leader() is leader, "that it runs again does not move it after all"
    told(callers)


def test_one_that_has_no_others_moves_nothing():
    with (
        LocalCluster(replicas=1) as cluster,
        cluster.client() as operator,
        pytest.raises(errors.Refused, match="no others"),
    ):
        operator.move_leader()
