"""Elections: who has waited longest leads, under terms that only rise."""

import pytest
from core_story import FULL, NOT_FOUND, Story, reason

from agentkeeper.core import commands as c
from agentkeeper.core import limits
from agentkeeper.core.records import Election


@pytest.fixture
def story():
    return Story().agent("ann", "bob", "cyd", ttl=10**8).forget()


def campaign(story, agent_id, group="east"):
    election = story.do(c.Campaign(group, agent_id))
    return election.leader, election.term


def test_the_first_candidate_leads_and_nobody_displaces_it(story):
    assert campaign(story, "ann") == ("ann", 1)
    assert campaign(story, "bob") == ("ann", 1)
    assert campaign(story, "ann") == ("ann", 1), "campaigning again changes nothing"
    assert story.topics() == ["leader.changed east"]
    assert story.state.elections.get("east").candidates == ("ann", "bob")


def test_answers_and_events_carry_the_leader_and_not_the_line_behind_it(story):
    campaign(story, "ann")
    assert story.do(c.Campaign("east", "bob")).candidates == ("ann",)
    assert story.payloads(Election, "leader.changed")[0].candidates == ("ann",)


@pytest.mark.parametrize("ending", [c.Resign("east", "ann"), c.Deregister("ann")])
def test_whoever_has_waited_longest_follows_under_a_new_term(story, ending):
    for agent_id in ("ann", "bob", "cyd"):
        campaign(story, agent_id)
    story.forget().do(ending)
    assert story.topics()[-1] == "leader.changed east"
    told = story.payloads(Election, "leader.changed")
    assert [(e.leader, e.term) for e in told] == [("bob", 2)]
    assert told[0].changed_sequence == story.events[-1].sequence


def test_a_group_without_candidates_keeps_its_term(story):
    campaign(story, "ann")
    story.do(c.Resign("east", "ann"))
    empty = story.payloads(Election, "leader.changed")[-1]
    assert (empty.leader, empty.term) == ("", 1)
    assert campaign(story, "bob") == ("bob", 2)


def test_a_follower_that_resigns_changes_nothing_for_the_others(story):
    for agent_id in ("ann", "bob", "cyd"):
        campaign(story, agent_id)
    story.forget().do(c.Resign("east", "bob"))
    assert story.topics() == []
    story.do(c.Resign("east", "ann"))
    assert story.state.elections.get("east").leader == "cyd"


def test_resigning_without_candidacy_is_no_error_but_an_unknown_agent_is(story):
    assert story.do(c.Resign("nowhere", "ann")) == ()
    assert reason(story.do(c.Resign("east", "nobody"))) == NOT_FOUND
    assert reason(story.do(c.Campaign("east", "nobody"))) == NOT_FOUND


def test_terms_are_not_used_again_by_a_group_that_was_forgotten(story):
    for _ in range(3):
        campaign(story, "ann")
        story.do(c.Resign("east", "ann"))
    assert "east" not in story.at(limits.GROUP_RETENTION_MS).state.elections
    story.agent("dan", ttl=10**9)
    assert campaign(story, "dan") == ("dan", 4)
    assert campaign(story, "dan", "west") == ("dan", 4), "as no one knows which names came before"


def test_groups_and_candidates_are_bounded(story, monkeypatch):
    monkeypatch.setattr(limits, "GROUPS", 1)
    monkeypatch.setattr(limits, "CANDIDATES_EACH", 2)
    campaign(story, "ann")
    campaign(story, "bob")
    assert reason(story.do(c.Campaign("east", "cyd"))) == FULL
    assert reason(story.do(c.Campaign("west", "cyd"))) == FULL
    assert campaign(story, "bob") == ("ann", 1)


def test_an_agent_is_a_candidate_in_a_bounded_number_of_groups(story, monkeypatch):
    monkeypatch.setattr(limits, "GROUPS_EACH", 1)
    monkeypatch.setattr(limits, "GROUPS", 2)
    campaign(story, "ann", "west")
    campaign(story, "bob", "empty")
    story.do(c.Resign("empty", "bob"))
    assert reason(story.do(c.Campaign("east", "ann"))) == FULL
    assert "empty" in story.state.elections, "a refusal changes nothing"
    assert campaign(story, "ann", "west") == ("ann", 1)


def test_the_group_that_has_been_empty_longest_makes_room(story, monkeypatch):
    monkeypatch.setattr(limits, "GROUPS", 2)
    for time_ms, group in enumerate(("west", "east")):
        story.at(time_ms)
        campaign(story, "ann", group)
        story.do(c.Resign(group, "ann"))
    assert campaign(story, "ann", "new") == ("ann", 2)
    assert sorted(story.state.elections) == ["east", "new"]


def test_candidates_whose_death_is_due_are_passed_over(monkeypatch):
    story = Story().agent("ann", "bob", ttl=1_000).agent("cyd", ttl=10**8)
    for agent_id in ("ann", "bob", "cyd"):
        campaign(story, agent_id)
    story.at(1_000)
    monkeypatch.setattr(limits, "DUE_WORK_PER_ENTRY", 1)
    story.at(2_000)
    assert story.status("bob") != story.status("ann"), "only one death was worked off"
    election = story.state.elections.get("east")
    assert (election.candidates, election.term) == (("cyd",), 2)


def test_a_thousand_candidates_may_die_at_once(monkeypatch):
    """As when a whole site is cut off: the work must not nest as deep as there are candidates."""
    monkeypatch.setattr(limits, "DUE_WORK_PER_ENTRY", 10**6)
    ids = [f"agent{i:04}" for i in range(limits.CANDIDATES_EACH)]
    story = Story().agent(*ids, ttl=1_000)
    story.batch(*(c.Command("", "", 0, 0, c.Campaign("east", agent_id)) for agent_id in ids))
    story.at(1_000).at(2_000)
    assert story.state.elections.get("east").leader == ""
    assert story.state.live_agents() == 0
