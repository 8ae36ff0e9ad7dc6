"""The life of an agent, and what its end takes with it."""

import pytest
from core_story import FULL, NOT_FOUND, Story, card, reason

from agentkeeper.core import commands as c
from agentkeeper.core import limits
from agentkeeper.core.records import Agent, AgentStatus, NameConflict

ALIVE, UNREACHABLE, DEAD = AgentStatus


def test_a_silent_agent_is_unreachable_after_one_ttl_and_dead_after_two():
    story = Story().agent("ann", ttl=10_000)
    assert story.at(9_999).status("ann") == ALIVE
    assert story.at(10_000).status("ann") == UNREACHABLE
    assert story.at(19_999).status("ann") == UNREACHABLE
    assert story.at(20_000).status("ann") == DEAD
    assert story.topics() == [
        "agent.registered ann", "agent.unreachable ann", "agent.died ann timed_out",
    ]  # fmt: skip


def test_one_more_ttl_counts_from_when_the_silence_was_noticed():
    story = Story().agent("ann", ttl=10_000).at(17_000)
    assert story.status("ann") == UNREACHABLE
    assert story.at(26_999).status("ann") == UNREACHABLE
    assert story.at(27_000).status("ann") == DEAD


def test_heartbeats_keep_an_agent_alive_and_bring_an_unreachable_one_back():
    story = Story().agent("ann", ttl=10_000)
    story.at(9_999).do(c.Heartbeat("ann"))
    assert story.at(19_998).status("ann") == ALIVE
    assert story.at(19_999).status("ann") == UNREACHABLE
    story.do(c.Heartbeat("ann"))
    assert story.status("ann") == ALIVE
    assert story.topics()[-1] == "agent.recovered ann"
    assert story.state.agents.get("ann").deadline_ms == 29_999


def test_dead_is_final_yet_remembered_for_a_while():
    story = Story().agent("ann")
    story.do(c.Deregister("ann"))
    for body in (c.Heartbeat("ann"), c.Deregister("ann"), c.Campaign("g", "ann")):
        assert reason(story.do(body)) == NOT_FOUND
    again = story.do(c.Register("ann", card(), 30_000, 0))
    assert reason(again) == ("ALREADY_EXISTS", "exists"), "a new life is a new id"
    assert story.at(limits.AGENT_RETENTION_MS - 1).status("ann") == DEAD
    assert "ann" not in story.at(limits.AGENT_RETENTION_MS).state.agents


def test_agents_of_one_name_coexist():
    story = Story().agent("a1", "a2", name="orchestrator")
    assert story.status("a1") == story.status("a2") == ALIVE


def test_replace_ends_the_namesakes():
    story = Story().agent("a1", "a2", name="orchestrator").agent("b1", name="worker").forget()
    story.do(c.Register("a3", card("orchestrator"), 30_000, NameConflict.REPLACE))
    assert story.topics() == [
        "agent.died a1 superseded", "agent.died a2 superseded", "agent.registered a3",
    ]  # fmt: skip
    assert story.payloads(Agent, "agent.died")[0].reason == "superseded"
    assert story.status("b1") == ALIVE


def test_reject_refuses_while_a_namesake_lives():
    story = Story().agent("a1", name="orchestrator", ttl=1_000)
    newcomer = c.Register("a2", card("orchestrator"), 30_000, NameConflict.REJECT)
    refused = story.at(1_500).do(newcomer)
    assert reason(refused) == ("ALREADY_EXISTS", "name_conflict")
    assert "a1" in refused.message
    assert "a2" not in story.state.agents
    assert story.at(2_500).do(newcomer).agent_id == "a2", "the namesake has died meanwhile"


def test_an_end_takes_everything_with_it_in_a_fixed_order():
    story = Story().agent("ann", "bob", ttl=10**8).session("s")
    story.acquire("deploy", "ann")
    story.acquire("index", "bob")
    story.acquire("index", "ann", wait=10**6, session="s", number=1)
    story.task("t1")
    story.claim("ann")
    story.do(c.Campaign("east", "ann"))
    story.do(c.Campaign("east", "bob"))
    story.forget().do(c.Deregister("ann"))
    assert story.topics() == [
        "agent.died ann deregistered",
        "lease.released deploy holder_died",
        "task.requeued t1 claimant_left",
        "leader.changed east",
    ]  # fmt: skip
    assert len(story.state.waiters) == 0
    assert story.state.elections.get("east").leader == "bob"


def test_live_agents_are_bounded_and_replacing_makes_room(monkeypatch):
    monkeypatch.setattr(limits, "AGENTS", 2)
    story = Story().agent("a1", "a2")
    assert reason(story.do(c.Register("a3", card("x"), 1_000, 0))) == FULL
    assert story.status("a1") == ALIVE
    replacing = c.Register("a3", card("a1"), 1_000, NameConflict.REPLACE)
    assert story.do(replacing).agent_id == "a3"


def test_cards_are_bounded_together_and_the_dead_make_room(monkeypatch):
    story = Story().agent("a1")
    monkeypatch.setattr(limits, "CARDS_BYTES", story.state.cards_bytes)
    assert reason(story.do(c.Register("a2", card("a2"), 1_000, 0))) == FULL
    story.do(c.Deregister("a1"))
    assert story.agent("a2").status("a2") == ALIVE
    assert "a1" not in story.state.agents


def test_the_dead_are_bounded_and_the_oldest_is_forgotten_first(monkeypatch):
    monkeypatch.setattr(limits, "DEAD_AGENTS", 2)
    story = Story().agent("a1", "a2", "a3", ttl=10**8)
    for time_ms, agent_id in enumerate(("a2", "a3", "a1")):
        story.at(time_ms).do(c.Deregister(agent_id))
    assert sorted(story.state.agents) == ["a1", "a3"]


@pytest.mark.parametrize(
    "body",
    [
        c.AcquireLease("deploy", "ann", 1_000, 0, False),
        c.Campaign("east", "ann"),
        c.ClaimTask("ann"),
        c.Heartbeat("ann"),
        c.CompleteTask("t1", "ann", 0, b""),
    ],
)
def test_an_agent_whose_death_is_due_counts_as_dead_before_it_is_worked_off(body, monkeypatch):
    story = Story().agent("ann", ttl=1_000).at(1_000)
    monkeypatch.setattr(limits, "DUE_WORK_PER_ENTRY", 0)
    story.now = 2_000
    assert reason(story.do(body)) == NOT_FOUND
    assert story.status("ann") == DEAD
