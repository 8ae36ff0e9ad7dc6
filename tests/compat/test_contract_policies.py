"""Policies: DENY over ALLOW, the reason's words, wildcards."""

from collections.abc import Callable, Iterator

import grpc
import pytest

from .helpers import refused
from .legacy_client import AgentKeeperClient
from .legacy_proto import CLASSES
from .legacy_types import CheckResult, Policy, PolicyEffect

Name = Callable[[str], str]
ALLOW, DENY = PolicyEffect.ALLOW, PolicyEffect.DENY
SetPolicy = Callable[..., Policy]


@pytest.fixture
def put(client: AgentKeeperClient) -> Iterator[SetPolicy]:
    """Sets policies that end with the test."""
    ids: set[str] = set()

    def put(id: str, subject: str, action: str, resource: str, effect: PolicyEffect) -> Policy:
        ids.add(id)
        return client.set_policy(id, subject, action, resource, effect)

    yield put
    for id in ids:
        client.delete_policy(id)


def test_without_a_match_the_answer_is_no(client: AgentKeeperClient, name: Name) -> None:
    result = client.check_policy(name("agent"), "call", "tool:x")
    assert not result.allowed
    assert "no matching" in result.reason


def test_set_policy_returns_it_and_replaces_by_id(
    client: AgentKeeperClient, name: Name, put: SetPolicy
) -> None:
    allow = put(name("p"), name("agent"), "call", "tool:*", ALLOW)
    assert allow == Policy(name("p"), name("agent"), "call", "tool:*", ALLOW)
    assert client.check_policy(name("agent"), "call", "tool:x").allowed
    deny = put(name("p"), name("agent"), "call", "tool:*", DENY)
    assert client.list_policies(name("agent")) == [deny]
    assert not client.check_policy(name("agent"), "call", "tool:x").allowed


def test_deny_overrides_allow_and_the_lowest_id_of_the_winners_is_named(
    client: AgentKeeperClient, name: Name, put: SetPolicy
) -> None:
    who = name("agent")
    c, a, b, z, y = (name(letter) for letter in "cabzy")

    def check() -> CheckResult:
        return client.check_policy(who, "call", "tool:write")

    put(c, who, "call", "tool:*", ALLOW)
    assert check() == CheckResult(True, f'allowed by policy "{c}"')
    put(a, who, "*", "tool:write", ALLOW)
    put(b, who, "call", "tool:write", ALLOW)
    assert check() == CheckResult(True, f'allowed by policy "{a}"')
    put(z, who, "*", "*", DENY)
    assert check() == CheckResult(False, f'denied by policy "{z}"')
    put(y, who, "call", "*", DENY)
    assert check() == CheckResult(False, f'denied by policy "{y}"')
    put(name("0"), who, "call", "tool:read", DENY)  # does not match
    assert check() == CheckResult(False, f'denied by policy "{y}"')


WILDCARDS = [
    ("*", "anything at all", True),
    ("tool:*", "tool:write_file", True),
    ("tool:*", "tool:", True),
    ("tool:*", "toolbox", False),
    ("tool:*", "my-tool:x", False),
    ("*:write_*", "tool:write_file", True),
    ("*_file", "tool:write_file", True),
    ("*_file", "tool:write_file2", False),
    ("a*b*c", "aXbYc", True),
    ("a*b*c", "abc", True),
    ("a*b*c", "acb", False),
    ("a**c", "abc", True),
    ("tool", "tool", True),
    ("tool", "Tool", False),
    ("t?ol", "tool", False),
    ("to.l", "tool", False),
    ("[t]ool", "tool", False),
]


@pytest.mark.parametrize("field", ["subject", "action", "resource"])
def test_a_star_stands_for_any_characters_anywhere(
    client: AgentKeeperClient, name: Name, field: str
) -> None:
    only = {"subject": name("s"), "action": name("a"), "resource": name("r")}
    for pattern, text, matches in WILDCARDS:
        client.set_policy(name("p"), **{**only, field: pattern}, effect=ALLOW)
        result = client.check_policy(**{**only, field: text})
        assert result.allowed is matches, (pattern, text)
    client.delete_policy(name("p"))


def test_list_by_subject_prefix_and_delete(
    client: AgentKeeperClient, name: Name, put: SetPolicy
) -> None:
    mine = put(name("mine"), name("agent:scraper"), "call", "tool:a", ALLOW)
    other = put(name("other"), name("agent:writer"), "call", "tool:a", DENY)
    assert client.list_policies(subject_prefix=name("agent:scraper")) == [mine]
    everything = client.list_policies()
    assert mine in everything
    assert other in everything
    client.set_policy(name("brief"), name("agent:brief"), "call", "tool:a", ALLOW)
    client.delete_policy(name("brief"))
    assert client.list_policies(name("agent:brief")) == []
    assert "no matching" in client.check_policy(name("agent:brief"), "call", "tool:a").reason


def test_an_unknown_policy_is_not_found(client: AgentKeeperClient, name: Name) -> None:
    with refused(grpc.StatusCode.NOT_FOUND):
        client.delete_policy(name("never"))


def test_bad_input_is_an_invalid_argument(client: AgentKeeperClient, name: Name) -> None:
    good = {"id": name("p"), "subject": "s", "action": "a", "resource": "r", "effect": 1}
    for bad in ({"id": ""}, {"subject": ""}, {"effect": 0}, {"effect": 9}, {"action": "\0"}):
        with refused(grpc.StatusCode.INVALID_ARGUMENT):
            client.call("SetPolicy", policy=CLASSES["Policy"](**{**good, **bad}))
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        client.call("SetPolicy")
    assert name("p") not in {policy.id for policy in client.list_policies()}
