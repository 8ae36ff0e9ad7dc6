"""Elections: one leader at a time, terms that count elections, the longest waiting is next."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import grpc
import pytest

from .helpers import Recorder, refused
from .legacy_client import AgentHandle, AgentKeeperClient

Name = Callable[[str], str]


@pytest.fixture
def agents(client: AgentKeeperClient, name: Name) -> Iterator[list[AgentHandle]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(client.register(name("orchestrator"), "Leads", "1.0.0"))
            for _ in range(3)
        ]


def test_the_first_candidate_leads_and_stays(
    client: AgentKeeperClient, name: Name, agents: list[AgentHandle]
) -> None:
    first = client.campaign(name("group"), agents[0].agent_id)
    assert (first.group, first.leader_agent_id) == (name("group"), agents[0].agent_id)
    assert first.term > 0
    assert first.elected_at is not None
    assert client.campaign(name("group"), agents[1].agent_id) == first
    assert client.campaign(name("group"), agents[0].agent_id) == first
    assert client.campaign(name("group"), agents[1].agent_id) == first


def test_who_has_waited_longest_is_next(
    client: AgentKeeperClient, name: Name, agents: list[AgentHandle]
) -> None:
    group, events = name("group"), Recorder()
    zero, one, two = (agent.agent_id for agent in agents)
    with client.watch(["leader."], events) as watch:
        watch.ready()
        term = client.campaign(group, zero).term
        client.campaign(group, one)
        client.campaign(group, two)
        client.campaign(group, one)  # does not send it to the end of the line
        client.resign(group, zero)
        client.campaign(group, zero)
        agents[1].deregister()
        client.resign(group, two)

        def changes() -> list[tuple[str, int]]:
            return [(e.payload.leader_agent_id, e.payload.term) for e in events.about(group)]

        events.wait_for(lambda e: e.payload.group == group and e.payload.term == term + 3)
        assert changes() == [(zero, term), (one, term + 1), (two, term + 2), (zero, term + 3)]


def test_a_group_without_candidates_keeps_its_term(
    client: AgentKeeperClient, name: Name, agents: list[AgentHandle]
) -> None:
    group, events = name("group"), Recorder()
    with client.watch(["leader.changed"], events) as watch:
        watch.ready()
        state = client.campaign(group, agents[0].agent_id)
        client.resign(group, agents[0].agent_id)
        empty = events.wait_for(
            lambda e: e.payload.group == group and not e.payload.leader_agent_id
        ).payload
    assert empty.term == state.term
    assert client.campaign(group, agents[1].agent_id).term == state.term + 1


def test_a_candidate_that_resigns_while_waiting_is_passed_over(
    client: AgentKeeperClient, name: Name, agents: list[AgentHandle]
) -> None:
    group = name("group")
    term = client.campaign(group, agents[0].agent_id).term
    client.campaign(group, agents[1].agent_id)
    client.campaign(group, agents[2].agent_id)
    client.resign(group, agents[1].agent_id)
    client.resign(group, agents[0].agent_id)
    state = client.campaign(group, agents[2].agent_id)
    assert (state.leader_agent_id, state.term) == (agents[2].agent_id, term + 1)


def test_watch_election_tells_of_its_group_alone(
    client: AgentKeeperClient, name: Name, agents: list[AgentHandle]
) -> None:
    states = Recorder()
    term = client.campaign(name("other"), agents[0].agent_id).term
    with client.watch_election(name("group"), states) as watch:
        watch.ready()
        first = client.campaign(name("group"), agents[0].agent_id)
        client.campaign(name("group"), agents[1].agent_id)
        client.resign(name("other"), agents[0].agent_id)
        client.resign(name("group"), agents[0].agent_id)
        states.wait_for(lambda state: state.term == first.term + 1)
    assert [(s.group, s.leader_agent_id) for s in states.kept] == [
        (name("group"), agents[0].agent_id),
        (name("group"), agents[1].agent_id),
    ]
    assert term > 0


def test_bad_groups_are_an_invalid_argument(
    client: AgentKeeperClient, agents: list[AgentHandle]
) -> None:
    for group in ("", "x" * 10_000, "tab\t"):
        with refused(grpc.StatusCode.INVALID_ARGUMENT):
            client.campaign(group, agents[0].agent_id)
