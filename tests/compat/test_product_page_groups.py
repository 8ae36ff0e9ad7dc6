"""The same page on elections, entitlements and events."""

import threading
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest

from .helpers import PATIENCE_S, Recorder
from .legacy_client import AgentHandle, AgentKeeperClient
from .legacy_types import AgentInfo, ElectionState, Lease, PolicyEffect, WatchEvent

Name = Callable[[str], str]


# ---- elections


def test_campaign_resign_and_failover(client: AgentKeeperClient, name: Name) -> None:
    group = name("orchestrator:pipeline")
    with (
        client.register(name("orchestrator"), "Runs the pipeline", "1.0.0") as active,
        client.register(name("orchestrator"), "Runs the pipeline", "1.0.0") as standby,
    ):
        state = client.campaign(group=group, agent_id=active.agent_id)
        assert isinstance(state, ElectionState)
        assert state.leader_agent_id == active.agent_id
        assert isinstance(state.elected_at, datetime)
        assert client.campaign(group, standby.agent_id).leader_agent_id == active.agent_id
        client.resign(group=group, agent_id=active.agent_id)
        after = client.campaign(group, standby.agent_id)
        assert (after.leader_agent_id, after.term) == (standby.agent_id, state.term + 1)
        client.campaign(group, active.agent_id)
        standby.deregister()
        last = client.campaign(group, active.agent_id)
        assert (last.leader_agent_id, last.term) == (active.agent_id, state.term + 2)


def test_a_standby_learns_that_it_leads(
    client: AgentKeeperClient, name: Name, agent: AgentHandle
) -> None:
    group, mine = name("orchestrator:pipeline"), agent.agent_id
    became: list[tuple[str, int]] = []
    active = threading.Event()

    def on_change(state: ElectionState) -> None:
        became.append(("active" if state.leader_agent_id == mine else "standby", state.term))
        if state.leader_agent_id == mine:
            active.set()

    with client.register(name("first"), "Leads first", "1.0.0") as first:
        term = client.campaign(group, first.agent_id).term
        client.campaign(group, mine)
        with client.watch_election(group, on_change) as watch:
            watch.ready()
            first.deregister()
            assert active.wait(PATIENCE_S)
    assert became[-1] == ("active", term + 1)
    assert set(became[:-1]) <= {("standby", term)}


# ---- entitlements


@pytest.fixture
def policies(client: AgentKeeperClient, name: Name) -> Iterator[None]:
    """The two policies that the page sets."""
    client.set_policy(
        id=name("allow"),
        subject=name("agent:orchestrator"),
        action="call",
        resource="tool:*",
        effect=PolicyEffect.ALLOW,
    )
    client.set_policy(
        id=name("deny"),
        subject=name("agent:scraper"),
        action="call",
        resource="tool:write_file",
        effect=PolicyEffect.DENY,
    )
    yield
    for policy in client.list_policies(subject_prefix="agent:"):
        if policy.id in {name("allow"), name("deny"), name("broad")}:
            client.delete_policy(policy.id)


@pytest.mark.usefixtures("policies")
def test_check_a_policy(client: AgentKeeperClient, name: Name) -> None:
    scraper = name("agent:scraper")
    client.set_policy(name("broad"), scraper, "call", "tool:*", PolicyEffect.ALLOW)
    result = client.check_policy(subject=scraper, action="call", resource="tool:write_file")
    assert result.allowed is False
    assert result.reason == f'denied by policy "{name("deny")}"'
    assert client.check_policy(scraper, "call", "tool:read_file").allowed


@pytest.mark.usefixtures("policies")
def test_a_guarded_tool_call(client: AgentKeeperClient, name: Name) -> None:
    ran: list[str] = []

    def call_tool(agent: str, tool: str) -> None:
        result = client.check_policy(
            subject=name(f"agent:{agent}"), action="call", resource=f"tool:{tool}"
        )
        if not result.allowed:
            raise PermissionError(result.reason)
        ran.append(tool)

    call_tool("orchestrator", "write_file")
    with pytest.raises(PermissionError, match="denied by policy"):
        call_tool("scraper", "write_file")
    with pytest.raises(PermissionError, match="no matching"):
        call_tool("scraper", "read_file")
    assert ran == ["write_file"]


@pytest.mark.usefixtures("policies")
def test_list_and_delete_policies(client: AgentKeeperClient, name: Name) -> None:
    ids = {policy.id for policy in client.list_policies()}
    assert {name("allow"), name("deny")} <= ids
    scrapers = client.list_policies(subject_prefix=name("agent:scraper"))
    assert [policy.effect for policy in scrapers] == [PolicyEffect.DENY]
    client.delete_policy(name("deny"))
    assert client.list_policies(subject_prefix=name("agent:scraper")) == []


# ---- events


def test_watch(client: AgentKeeperClient, name: Name) -> None:
    agents, both, everything = Recorder(), Recorder(), Recorder()
    subscriptions = [
        client.watch(["agent."], agents),
        client.watch(["agent.", "lease."], both),
        client.watch([], everything),
    ]
    for subscription in subscriptions:
        subscription.ready()
    with client.register(name("a"), "Is watched", "1.0.0") as agent:
        client.acquire_lease(name("work"), agent.agent_id).release()
        client.campaign(name("group"), agent.agent_id)
        client.resign(name("group"), agent.agent_id)
    mine = (agent.agent_id, name("work"), name("group"))
    for recorder in (agents, both, everything):
        recorder.topic("agent.died", agent.agent_id)
    for subscription in subscriptions:
        subscription.cancel()
    assert [e.topic for e in agents.about(*mine)] == ["agent.registered", "agent.died"]
    assert [e.topic for e in both.about(*mine)] == [
        "agent.registered",
        "lease.acquired",
        "lease.released",
        "agent.died",
    ]
    assert [type(e.payload) for e in everything.about(*mine)] == [
        *(AgentInfo, Lease, Lease),
        *(ElectionState, ElectionState, AgentInfo),
    ]
    numbers = [event.sequence for event in everything.kept]
    assert numbers == sorted(set(numbers))


def test_a_watch_is_cancelled_on_exit(client: AgentKeeperClient, name: Name) -> None:
    deaths = Recorder()
    with client.watch(["agent.died"], deaths) as watch:
        watch.ready()
        with client.register(name("a"), "Dies within", "1.0.0") as within:
            pass
        deaths.topic("agent.died", within.agent_id)
    with client.register(name("b"), "Dies after", "1.0.0") as after:
        pass
    assert deaths.about(after.agent_id) == []


def test_an_orchestrator_that_reacts_to_deaths_and_expiries(
    client: AgentKeeperClient, name: Name, agent: AgentHandle
) -> None:
    active = {}
    reassigned, requeued = Recorder(), Recorder()

    def on_event(event: WatchEvent) -> None:
        if event.topic == "agent.died":
            for task_id, holder in list(active.items()):
                if holder == event.payload.agent_id:
                    reassigned(task_id)
        elif event.topic == "lease.expired" and event.payload.task_id in active:
            requeued(event.payload.task_id)

    with (
        client.register(name("doomed"), "Dies at work", "1.0.0") as doomed,
        client.watch(["agent.died", "lease.expired"], on_event) as watch,
    ):
        watch.ready()
        active[name("lost")] = doomed.agent_id
        active[name("slow")] = agent.agent_id
        client.acquire_lease(name("slow"), agent.agent_id, ttl=1)
        client.acquire_lease(name("lost"), doomed.agent_id, ttl=60)
        doomed.deregister()
        reassigned.wait_for(lambda task_id: task_id == name("lost"))
        requeued.wait_for(lambda task_id: task_id == name("slow"))
    assert (reassigned.kept, requeued.kept) == ([name("lost")], [name("slow")])
