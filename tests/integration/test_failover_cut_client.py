"""A client that nobody can reach, and that can reach nobody, knows in time what it has lost.

`lost` is asked of the clock, so it is looked at and not waited for: at the moment at which it must
be set, and at the moment at which somebody else is granted the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from agentkeeper import errors
from agentkeeper.client import AgentKeeperClient
from agentkeeper.launcher import LocalCluster
from agentkeeper.types import AgentStatus

from .conftest import heal
from .faces import Face, Tasks, Threads, value
from .links import Links
from .waiting import PATIENCE_S, Recorder, background, eventually

CUT = "the client that is cut off"
TTL_S = 2
LONG_TTL_S = 60


@pytest.fixture
def links() -> Iterator[Links]:
    with Links() as links:
        yield links


@pytest.fixture
def whole(rough: LocalCluster) -> LocalCluster:
    heal(rough)
    return rough


@pytest.fixture(params=[Threads, Tasks], ids=["thread", "task"])
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    face = request.param()
    yield face
    face.close()


@pytest.fixture
def call(face: Face):
    """Calls something of the face under test and waits for it."""

    def call(function: Any, *args: Any, **keywords: Any) -> Any:
        async def work() -> Any:
            return await value(function(*args, **keywords))

        return face.start(work).result(PATIENCE_S)

    return call


@pytest.fixture
def alone(whole: LocalCluster, links: Links, face: Face, call) -> Iterator[Any]:
    """A client with links of its own."""
    endpoints = links.endpoints_for(CUT, whole)
    client = call(partial(face.client, endpoints=endpoints, timeout=10.0))
    yield client
    links.heal()
    call(client.close)


@pytest.fixture
def other(whole: LocalCluster) -> Iterator[AgentKeeperClient]:
    with whole.client(timeout=60) as client:
        yield client


def until(moment_s: float) -> None:
    """Wait for a moment of the monotonic clock."""
    eventually(lambda: time.monotonic() >= moment_s, "the moment")


def await_moment(due_s: float, waiting: Any) -> None:
    """Wait for the deadline or for another one's grant: either is too late for not knowing."""
    eventually(lambda: waiting.done() or time.monotonic() >= due_s, "either moment")


@pytest.fixture(params=[False, True], ids=["fixed", "kept"])
def keep_alive(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def holder(call, alone, name) -> Any:
    """An agent of the client that will be cut off."""
    return call(alone.register, name("cut"), "Is cut off", "1", ttl=LONG_TTL_S)


@pytest.fixture
def successor(other, name) -> Any:
    return other.register(name("next"), "Waits", "1", ttl=LONG_TTL_S)


@dataclass
class Held:
    """A lease of the client that will be cut off, and another one's wait for it."""

    lease: Any
    granted_s: float
    waiting: Any


@pytest.fixture
def held(*, call, alone, holder, other, successor, name, keep_alive, told) -> list[Held]:
    held = []
    for number in range(5):
        key, ttl = name(f"lease{number}"), TTL_S + number % 2
        acquire = partial(alone.acquire_lease, keep_alive=keep_alive, on_lost=told)
        lease = call(acquire, key, holder.agent_id, ttl)
        granted_s = time.monotonic()
        acquire_next = partial(other.acquire_lease, ttl=LONG_TTL_S, wait=30.0)
        held.append(Held(lease, granted_s, background(acquire_next, key, successor.agent_id)))
    return held


@pytest.fixture
def told() -> Recorder:
    """What gets the handles that are lost."""
    return Recorder()


def test_leases_are_lost_before_anybody_else_has_them(links, call, held, keep_alive, told):
    if keep_alive:
        until(held[-1].granted_s + TTL_S + 1)
        for one in held:
            assert not one.waiting.done(), f"granted to another one while renewed: {one}"
            one.lease.check()
    links.cut(CUT)
    cut_s = time.monotonic()
    for one in held:
        # What is kept was last renewed before the cut.
        begin_s = cut_s if keep_alive else one.granted_s
        await_moment(begin_s + one.lease.lease.ttl_seconds, one.waiting)
        assert one.lease.lost.is_set(), f"{one} is taken to be held"
        with pytest.raises(errors.LeaseLost):
            one.lease.check()
    for one in held:
        assert one.waiting.result(PATIENCE_S).token > one.lease.token
    eventually(lambda: len(told.kept) >= len(held), "on_lost")
    assert {id(handle) for handle in told.kept} == {id(one.lease) for one in held}
    assert len(told.kept) == len(held)
    links.heal()
    for one in held:
        with pytest.raises((errors.LeaseLost, errors.StaleToken)):
            call(one.lease.renew)


def test_an_agent_is_lost_when_the_cluster_says_so_and_not_by_the_cut(
    links, call, alone, other, name
):
    brief = call(alone.register, name("brief"), "Dies", "1", ttl=TTL_S)
    long = call(alone.register, name("long"), "Lives", "1", ttl=LONG_TTL_S)
    links.cut(CUT)

    def dead() -> bool:
        assert not brief.lost, f"before the cluster could say so: {brief.lost}"
        return other.get_agent(brief.agent_id).status is AgentStatus.DEAD

    eventually(dead, "the cluster declares it DEAD")
    assert not brief.lost, f"nobody can have told: {brief.lost}"
    links.heal()
    eventually(brief.lost.is_set, "the news")
    assert brief.lost.reason == "timed_out"
    assert not long.lost
    assert other.get_agent(long.agent_id).status is AgentStatus.ALIVE


def test_leadership_is_lost_before_another_one_leads(links, call, alone, other, name):
    group = name("group")
    agent = call(alone.register, name("leader"), "Leads", "1", ttl=TTL_S)
    second = other.register(name("second"), "Waits", "1", ttl=LONG_TTL_S)
    told = Recorder()
    leadership = call(alone.lead, group, agent, on_lost=told)
    waiting = background(other.lead, group, second, timeout=60.0)
    until(time.monotonic() + 2.5 * TTL_S)
    assert not waiting.done(), "another one leads as well"
    leadership.check()
    links.cut(CUT)
    due_s = time.monotonic() + 2 * TTL_S
    await_moment(due_s, waiting)
    assert leadership.lost.is_set(), "taken to lead still"
    with pytest.raises(errors.LeadershipLost):
        leadership.check()
    assert waiting.result(PATIENCE_S).term > leadership.term
    assert told.first(lambda handle: True, "on_lost") is leadership
    assert len(told.kept) == 1
