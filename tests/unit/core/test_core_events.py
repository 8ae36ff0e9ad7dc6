"""Events: numbered without gaps, kept within bounds, carrying what they tell of."""

import pytest
from core_story import WALL, Story

from agentkeeper.core import commands as c
from agentkeeper.core import limits
from agentkeeper.core.records import Agent, Policy


def numbers(story):
    return list(story.state.events)


def set_policies(story, count, subject="ann"):
    for _ in range(count):
        story.do(c.SetPolicy(Policy("p", subject, "*", "*", 1)))
    return story


def test_events_are_numbered_from_1_over_all_topics():
    story = Story().agent("ann")
    story.acquire("deploy", "ann")
    story.do(c.Campaign("east", "ann"))
    set_policies(story, 2)
    assert [e.sequence for e in story.events] == [1, 2, 3, 4, 5]
    assert numbers(story) == [1, 2, 3, 4, 5]


def test_an_entry_tells_only_its_own_events():
    story = Story().agent("ann").forget().agent("bob")
    assert story.topics() == ["agent.registered bob"]
    assert story.forget().at(1).events == []


def test_an_event_carries_the_record_as_it_became_and_the_leaders_wall_clock():
    story = Story().agent("ann", ttl=1_000).at(1_000)
    event = story.events[-1]
    assert (event.topic, event.subject) == ("agent.unreachable", "ann")
    assert event.wall_ms == WALL + 1_000
    assert story.payloads(Agent, event.topic) == [story.state.agents.get("ann")]


def test_the_oldest_events_make_room_for_new_ones(monkeypatch):
    monkeypatch.setattr(limits, "EVENTS", 3)
    story = set_policies(Story(), 5)
    assert numbers(story) == [3, 4, 5]
    assert (story.state.first_sequence, story.state.last_sequence) == (3, 5)
    assert [e.sequence for e in story.events] == [1, 2, 3, 4, 5], "told in full all the same"


def test_events_are_bounded_by_bytes_as_well(monkeypatch):
    story = set_policies(Story(), 1)
    size = story.state.event_bytes
    monkeypatch.setattr(limits, "EVENT_BYTES", 3 * size)
    assert numbers(set_policies(story, 4)) == [3, 4, 5]
    assert story.state.event_bytes == 3 * size


def test_an_event_larger_than_all_room_is_told_but_not_kept(monkeypatch):
    monkeypatch.setattr(limits, "EVENT_BYTES", 100)
    story = set_policies(Story(), 1)
    set_policies(story, 1, subject="x" * 200)
    assert [e.sequence for e in story.events] == [1, 2]
    assert numbers(story) == []
    assert (story.state.first_sequence, story.state.event_bytes) == (3, 0)
    assert numbers(set_policies(story, 1)) == [3]


@pytest.mark.parametrize("body", [c.Heartbeat("ann"), c.Resign("east", "ann"), c.ClaimTask("ann")])
def test_what_changes_nothing_worth_telling_is_not_told(body):
    story = Story().agent("ann").forget()
    story.do(body)
    assert story.topics() == []
