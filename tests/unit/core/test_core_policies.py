"""Policies: DENY overrides ALLOW, wildcards, and matching that no pattern slows down."""

import pytest
from core_story import FULL, NOT_FOUND, Story, reason

from agentkeeper.core import commands as c
from agentkeeper.core import limits
from agentkeeper.core.matching import matches
from agentkeeper.core.records import Effect, Policy


def policies(*rows):
    """A story with policies (id, subject, action, resource, effect)."""
    story = Story()
    for row in rows:
        story.do(c.SetPolicy(Policy(*row)))
    return story


def check(story, subject, action="call", resource="tool:search"):
    return story.state.policy_index.check(subject, action, resource)


def test_no_match_is_a_refusal():
    verdict = check(policies(), "ann")
    assert not verdict.allowed
    assert "no matching" in verdict.reason


def test_deny_overrides_allow_whichever_came_first():
    allow = ("a", "ann", "*", "*", Effect.ALLOW)
    deny = ("z", "*", "call", "tool:*", Effect.DENY)
    for story in (policies(allow, deny), policies(deny, allow)):
        verdict = check(story, "ann")
        assert not verdict.allowed
        assert verdict.reason == 'denied by policy "z"'
    assert check(story, "ann", action="read").reason == 'allowed by policy "a"'


def test_the_lowest_id_of_the_winning_effect_is_named():
    story = policies(
        ("p2", "*", "*", "*", Effect.ALLOW),
        ("p1", "ann", "call", "*", Effect.ALLOW),
        ("p0", "bob", "*", "*", Effect.DENY),
        ("p3", "ann", "*", "tool:*", Effect.ALLOW),
    )
    assert check(story, "ann") == (True, "p1", 'allowed by policy "p1"')
    assert check(story, "bob") == (False, "p0", 'denied by policy "p0"')


def test_setting_again_replaces_and_deleting_ends():
    story = policies(("p", "ann", "*", "*", Effect.ALLOW), ("p", "bob*", "*", "*", Effect.ALLOW))
    assert not check(story, "ann").allowed
    assert check(story, "bobby").allowed
    story.do(c.DeletePolicy("p"))
    assert not check(story, "bobby").allowed
    assert reason(story.do(c.DeletePolicy("p"))) == NOT_FOUND
    assert story.topics() == ["policy.set p", "policy.set p", "policy.deleted p"]


def test_policies_are_bounded_but_a_full_table_can_be_changed(monkeypatch):
    monkeypatch.setattr(limits, "POLICIES", 1)
    story = policies(("p", "ann", "*", "*", Effect.ALLOW))
    assert reason(story.do(c.SetPolicy(Policy("q", "*", "*", "*", Effect.DENY)))) == FULL
    assert story.do(c.SetPolicy(Policy("p", "*", "*", "*", Effect.DENY))).effect == Effect.DENY


def test_subjects_with_a_wildcard_are_bounded_apart(monkeypatch):
    monkeypatch.setattr(limits, "PATTERN_SUBJECTS", 1)
    story = policies(("p", "a*", "*", "*", Effect.ALLOW), ("q", "ann", "*", "*", Effect.ALLOW))
    assert reason(story.do(c.SetPolicy(Policy("q", "b*", "*", "*", Effect.DENY)))) == FULL
    assert story.do(c.SetPolicy(Policy("p", "c*", "*", "*", Effect.DENY))).subject == "c*"
    assert story.state.policies.get("q").subject == "ann"


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("tool:search", "tool:search", True),
        ("tool:search", "tool:searches", False),
        ("*", "", True),
        ("*", "anything", True),
        ("", "", True),
        ("", "a", False),
        ("tool:*", "tool:", True),
        ("tool:*", "Tool:x", False),
        ("*:read", "db:read", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "aXbYc", True),
        ("a*b*c", "acb", False),
        ("*b*b*", "ab", False),
        ("**a**", "bab", True),
        ("a*ab", "aab", True),
        ("*ab*ab", "abab", True),
        ("*ab*ab", "aab", False),
        ("?.[x]", "?.[x]", True),
        ("?", "x", False),
    ],
)
def test_a_star_stands_for_any_characters_and_nothing_else_is_special(pattern, text, fits):
    assert matches(pattern, text) is fits


class Scanned(str):
    """Text that counts the characters that searches in it pass over."""

    __slots__ = ("steps",)

    def find(self, piece, start, end):
        found = super().find(piece, start, end)
        self.steps = getattr(self, "steps", 0) + (found if found >= 0 else end) - start + 1
        return found


@pytest.mark.parametrize("size", [50, 500, 5_000])
@pytest.mark.parametrize("pattern", ["*{}*b*", "*{}b*", "a{}*a", "*a*a*a*b*{}", "*a{}a*"])
def test_a_storm_of_wildcards_costs_no_more_than_one_pass(size, pattern):
    """A backtracking matcher would take time exponential in the stars, or size to their power."""
    text = Scanned("a" * size)
    matches(pattern.format("*a" * (size // 2)), text)
    assert 0 < text.steps <= 2 * size
