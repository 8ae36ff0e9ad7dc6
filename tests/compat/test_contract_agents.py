"""Agents: ids, life and death, search."""

import re
from collections.abc import Callable
from datetime import UTC, timedelta

import grpc
import pytest

from .helpers import Recorder, crashing, eventually, newer_fields, refused
from .legacy_client import AgentKeeperClient
from .legacy_proto import CLASSES
from .legacy_types import AgentCard, AgentStatus

Name = Callable[[str], str]
NOBODY = "0" * 32


def test_an_agent_gets_an_id_of_its_own_at_every_registration(
    client: AgentKeeperClient, name: Name
) -> None:
    with (
        client.register(name("twin"), "One of two", "1.0.0") as one,
        client.register(name("twin"), "One of two", "1.0.0") as other,
    ):
        assert one.agent_id != other.agent_id
        for agent in (one, other):
            assert re.fullmatch("[0-9a-f]{32}", agent.agent_id)
            assert client.get_agent(agent.agent_id).status is AgentStatus.ALIVE


def test_get_agent_returns_what_was_registered(client: AgentKeeperClient, name: Name) -> None:
    tools, metadata = ["sql_runner", "pdf_reader"], {"team": "data", "région": "eu·west"}
    with client.register(name("a"), "Liest Daten", "2.1.0", tools, metadata, ttl=60) as agent:
        info = client.get_agent(agent.agent_id)
        assert info.agent_id == agent.agent_id
        assert info.card == AgentCard(name("a"), "Liest Daten", "2.1.0", tools, metadata)
        assert info.registered_at.tzinfo is UTC
        assert info.last_heartbeat_at >= info.registered_at


def test_an_agent_without_ttl_has_thirty_seconds(client: AgentKeeperClient, name: Name) -> None:
    with client.register(name("a"), "", "1.0.0", ttl=0) as agent:
        info = client.call("GetAgent", agent_id=agent.agent_id).agent
        assert newer_fields(info)[7] == 30


def test_heartbeats_at_half_the_ttl_keep_an_agent_alive(
    client: AgentKeeperClient, name: Name
) -> None:
    events = Recorder()
    with (
        client.register(name("a"), "Beats", "1.0.0", ttl=2) as agent,
        client.watch(["agent."], events) as watch,
    ):
        watch.ready()

        def lives_longer_than_its_ttl() -> bool:
            info = client.get_agent(agent.agent_id)
            assert info.status is AgentStatus.ALIVE
            return info.last_heartbeat_at - info.registered_at > timedelta(seconds=2)

        eventually(lives_longer_than_its_ttl, "a heartbeat after the first ttl")
        assert events.about(agent.agent_id) == []


def test_a_heartbeat_brings_an_unreachable_agent_back(
    client: AgentKeeperClient, name: Name
) -> None:
    events, tool = Recorder(), name("tool")
    with (
        client.watch(["agent.unreachable"], events) as watch,
        crashing(client, name("late"), tools=[tool]) as agent,
    ):
        watch.ready()
        events.topic("agent.unreachable", agent.agent_id)
        assert client.get_agent(agent.agent_id).status is AgentStatus.UNREACHABLE
        assert client.find(tools=[tool]) == []
        client.call("Heartbeat", agent_id=agent.agent_id)
        assert client.get_agent(agent.agent_id).status is AgentStatus.ALIVE
        assert [found.agent_id for found in client.find(tools=[tool])] == [agent.agent_id]


@pytest.mark.parametrize("end", ["deregister", "silence"])
def test_death_frees_everything_that_the_agent_held(
    client: AgentKeeperClient, name: Name, end: str
) -> None:
    tool, work, group = name("tool"), name("work"), name("group")
    events = Recorder()
    ttl = 1 if end == "silence" else 30
    with (
        client.register(name("heir"), "Inherits", "1.0.0", tools=[tool]) as heir,
        crashing(client, name("victim"), tools=[tool], ttl=ttl) as victim,
    ):
        client.acquire_lease(work, victim.agent_id)
        before = client.campaign(group, victim.agent_id)
        client.campaign(group, heir.agent_id)
        task = client.create_task("job", required_tools=[tool])
        assert client.claim_task(victim.agent_id).id == task.id
        with client.watch([], events) as watch:
            watch.ready()
            if end == "deregister":
                victim.deregister()
            else:
                missed = events.topic("agent.unreachable", victim.agent_id)
                assert missed.payload.status is AgentStatus.UNREACHABLE
            died = events.topic("agent.died", victim.agent_id)
            assert died.payload.status is AgentStatus.DEAD
            assert died.payload.card.name == name("victim")
            assert events.topic("lease.released", work).payload.holder_agent_id == victim.agent_id
            change = events.topic("leader.changed", group).payload
        of_victim = [event.topic for event in events.about(victim.agent_id)]
        assert of_victim == ["agent.unreachable", "agent.died"][end == "deregister" :]
        assert (change.leader_agent_id, change.term) == (heir.agent_id, before.term + 1)
        assert client.campaign(group, heir.agent_id) == change
        client.acquire_lease(work, heir.agent_id).release()
        again = client.claim_task(heir.agent_id)
        assert (again.id, again.claimed_by_agent_id) == (task.id, heir.agent_id)
        client.complete_task(task.id, heir.agent_id)
        with refused(grpc.StatusCode.NOT_FOUND):
            client.call("Heartbeat", agent_id=victim.agent_id)
        assert client.get_agent(victim.agent_id).status is AgentStatus.DEAD
        assert [found.agent_id for found in client.find(tools=[tool])] == [heir.agent_id]


def test_unknown_and_dead_agents_are_not_found(client: AgentKeeperClient, name: Name) -> None:
    with client.register(name("a"), "Ends soon", "1.0.0") as agent:
        pass
    for gone in (NOBODY, agent.agent_id):
        for call in (
            lambda gone=gone: client.call("Heartbeat", agent_id=gone),
            lambda gone=gone: client.call("Deregister", agent_id=gone),
            lambda gone=gone: client.acquire_lease(name("work"), gone),
            lambda gone=gone: client.campaign(name("group"), gone),
            lambda gone=gone: client.claim_task(gone),
        ):
            with refused(grpc.StatusCode.NOT_FOUND):
                call()
    with refused(grpc.StatusCode.NOT_FOUND):
        client.get_agent(NOBODY)


def test_bad_input_is_an_invalid_argument(client: AgentKeeperClient, name: Name) -> None:
    tool = name("tool")
    for card in (
        {"name": "", "tools": [tool]},
        {"name": "two\nlines", "tools": [tool]},
        {"name": "x" * 10_000, "tools": [tool]},
        {"name": "a", "tools": [tool, ""]},
    ):
        with refused(grpc.StatusCode.INVALID_ARGUMENT):
            client.call("Register", card=CLASSES["AgentCard"](version="1.0.0", **card))
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        client.call("Register")
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        client.register(name("a"), "", "1.0.0", tools=[tool], ttl=2**32 - 1)
    assert client.find(tools=[tool]) == []


# ---- Find


def test_tools_filter_and_all_of_them_must_be_there(client: AgentKeeperClient, name: Name) -> None:
    one, two = name("one"), name("two")
    with (
        client.register(name("a"), "Has one", "1.0.0", tools=[one]) as a,
        client.register(name("b"), "Has both", "1.0.0", tools=[two, one]) as b,
    ):
        assert {agent.agent_id for agent in client.find(tools=[one])} == {a.agent_id, b.agent_id}
        assert [agent.agent_id for agent in client.find(tools=[one, two])] == [b.agent_id]
        assert client.find(tools=[one, name("three")]) == []
        assert client.find("has both", tools=[name("three")]) == []


def test_a_query_ranks_and_never_filters(client: AgentKeeperClient, name: Name) -> None:
    tool = name("tool")
    cards = {
        "poet": "Writes sonnets about the sea",
        "scraper": "Fetches and parses web pages",
        "archivist": "Keeps old pages in order",
    }
    agents = {
        key: client.register(name(key), description, "1.0.0", tools=[tool])
        for key, description in cards.items()
    }
    try:
        found = client.find("fetch and parse web pages", tools=[tool])
        order = [agent.card.name for agent in found]
        assert order == [name("scraper"), name("archivist"), name("poet")]
        assert client.find(name("poet"), tools=[tool])[0].card.name == name("poet")
        assert len(client.find("matches nothing whatsoever: qqxyz", tools=[tool])) == 3
        assert client.find("web", [tool], limit=2)[0].card.name == name("scraper")
    finally:
        for agent in agents.values():
            agent.deregister()


def test_find_returns_ten_unless_told(client: AgentKeeperClient, name: Name) -> None:
    tool = name("tool")
    agents = [client.register(name("a"), "One of many", "1.0.0", [tool]) for _ in range(12)]
    try:
        assert len(client.find(tools=[tool], limit=0)) == 10
        assert len(client.find(tools=[tool])) == 10
        assert len(client.find(tools=[tool], limit=3)) == 3
        assert len(client.find("one of many", tools=[tool], limit=11)) == 11
        assert len(client.find("one of many", tools=[tool], limit=100)) == 12
    finally:
        for agent in agents:
            agent.deregister()
