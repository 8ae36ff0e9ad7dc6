"""Files of policies: what they may say, and the way from what is to what is wanted."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agentkeeper.cli.policy_file import (
    FileError,
    changes_between,
    decider,
    read_cases,
    read_policies,
)
from agentkeeper.types import Policy, PolicyEffect

ENTRY = {"id": "p", "subject": "a*", "action": "read", "resource": "d", "effect": "ALLOW"}


def test_a_list_and_a_key_and_json_are_the_same():
    made = [Policy("p", "a*", "read", "d", PolicyEffect.ALLOW)]
    for text in (
        yaml.safe_dump([ENTRY]),
        yaml.safe_dump({"policies": [ENTRY]}),
        json.dumps({"policies": [{**ENTRY, "effect": "allow"}]}),
    ):
        assert read_policies(text) == made


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"policy": [ENTRY]}, "expected policies"),
        ({"policies": ENTRY}, "must be a list"),
        (["p"], "policies[0]"),
        ([ENTRY, {**ENTRY, "id": "q", "more": 1}], "policies[1]: unknown: more"),
        ([{**ENTRY, "id": 7}], "policies[0].id must be text, not 7"),
        ([{**ENTRY, "effect": "maybe"}], "policies[0].effect must be ALLOW or DENY"),
        ([{key: ENTRY[key] for key in ("id", "effect")}], "missing: action, resource, subject"),
        ([ENTRY, ENTRY], "two policies of id 'p'"),
        ([ENTRY, {**ENTRY, "id": "q", "subject": "x" * 513}], "policies[1].subject is longer"),
        ([{**ENTRY, "id": "ä" * 129}], "policies[0].id is longer than 256 bytes"),
        ([{**ENTRY, "action": ""}], "policies[0].action must not be empty"),
        ([{**ENTRY, "action": "a\x07"}], "policies[0].action has a control character"),
        ([{**ENTRY, "id": str(n)} for n in range(2_001)], "2001 policies with a wildcard"),
    ],
)
def test_what_is_wrong_is_named(content, named):
    with pytest.raises(FileError, match=r".") as caught:
        read_policies(yaml.safe_dump(content))
    assert named in str(caught.value)


def test_what_is_no_yaml_is_refused():
    with pytest.raises(FileError, match="neither YAML nor JSON"):
        read_policies("a: [")


@pytest.mark.parametrize("text", ["[{id: a, id: b}]", '{"policies": [], "policies": []}'])
def test_a_key_that_is_there_twice_is_refused(text):
    with pytest.raises(FileError, match="there are two keys"):
        read_policies(text)


def test_what_is_nested_too_deeply_is_refused():
    with pytest.raises(FileError, match="nested"):
        read_policies("[" * 3_000 + "]" * 3_000)


def test_no_tests_are_no_success():
    with pytest.raises(FileError, match="no tests"):
        read_cases("tests: []")


def test_cases():
    question = {"subject": "x", "action": "read", "resource": "d"}
    whichever, named = read_cases(
        yaml.safe_dump(
            {
                "tests": [
                    {**question, "expect": "DENY"},
                    {**question, "expect": "ALLOW", "policy": "p"},
                ]
            }
        )
    )
    assert whichever.passes(False, "anything")
    assert not whichever.passes(True, "anything")
    assert named.passes(True, "p")
    assert not named.passes(True, "q")


WORDS = st.sampled_from(["a", "b", "*", "a*"])
POLICIES = st.dictionaries(
    st.sampled_from("123456"),
    st.tuples(WORDS, WORDS, st.sampled_from([PolicyEffect.ALLOW, PolicyEffect.DENY])),
).map(lambda made: {i: Policy(i, s, "do", r, e) for i, (s, r, e) in made.items()})
QUESTIONS = [
    (subject, "do", resource) for subject in ("a", "b", "ab") for resource in ("a", "b", "ab")
]


def applied(present, step):
    after = {**present, step.policy.id: step.policy}
    if step.kind == "delete":
        del after[step.policy.id]
    return after


def allowed(policies):
    index = decider(policies.values())
    return {question for question in QUESTIONS if index.check(*question).allowed}


@given(POLICIES, POLICIES, st.booleans())
def test_the_changes_lead_there(present, wanted, prune):
    steps = changes_between(present.values(), list(wanted.values()), prune=prune)
    reached = present
    for step in steps:
        assert (step.policy.id in reached) is (step.kind != "add")
        reached = applied(reached, step)
    assert reached == (wanted if prune else {**present, **wanted})
    assert changes_between(reached.values(), list(wanted.values()), prune=prune) == []


@given(POLICIES, POLICIES, st.booleans())
def test_nothing_is_allowed_on_the_way_only(present, wanted, prune):
    for policy_id, policy in wanted.items():
        if policy_id in present and present[policy_id].effect is policy.effect:
            wanted = {**wanted, policy_id: present[policy_id]}
    after = wanted if prune else {**present, **wanted}
    fine = allowed(present) | allowed(after)
    reached = present
    for step in changes_between(present.values(), list(wanted.values()), prune=prune):
        reached = applied(reached, step)
        assert allowed(reached) <= fine
