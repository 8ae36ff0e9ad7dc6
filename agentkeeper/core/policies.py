"""Policies: attribute rules in which DENY overrides ALLOW."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from agentkeeper.core import limits, refusals
from agentkeeper.core.matching import matches
from agentkeeper.core.records import DONE, Effect, Policy, Result

if TYPE_CHECKING:
    from agentkeeper.core.commands import DeletePolicy, SetPolicy
    from agentkeeper.core.state import State


class Verdict(NamedTuple):
    """Answer to a check, with the policy that decided (empty if none matched)."""

    allowed: bool
    policy_id: str
    reason: str


class PolicyIndex:
    """Policies by subject where it is literal, so that a check looks at few. Derived."""

    def __init__(self) -> None:
        self._literal: dict[str, dict[str, Policy]] = {}
        self._patterns: dict[str, Policy] = {}

    @property
    def patterns(self) -> int:
        """Policies whose subject has a wildcard."""
        return len(self._patterns)

    def put(self, policy: Policy) -> None:
        """Add a policy that is not in the index."""
        self._home(policy)[policy.policy_id] = policy

    def drop(self, policy: Policy) -> None:
        """Take a policy out."""
        home = self._home(policy)
        del home[policy.policy_id]
        if not home and home is not self._patterns:
            del self._literal[policy.subject]

    def check(self, subject: str, action: str, resource: str) -> Verdict:
        """Decide whether `subject` may do `action` on `resource`. No match is a refusal.

        The reason names the policy with the lowest id among the matches of the winning effect.
        """
        lowest: dict[int, Policy] = {}
        for policy in self.about(subject):
            held = lowest.get(policy.effect)
            if (held is None or policy.policy_id < held.policy_id) and fits(
                policy, subject, action, resource
            ):
                lowest[policy.effect] = policy
        return _verdict(lowest.get(Effect.DENY) or lowest.get(Effect.ALLOW))

    def about(self, subject: str) -> Iterator[Policy]:
        """The policies that may be about `subject`."""
        return chain(self._literal.get(subject, {}).values(), self._patterns.values())

    def _home(self, policy: Policy) -> dict[str, Policy]:
        if "*" in policy.subject:
            return self._patterns
        return self._literal.setdefault(policy.subject, {})


def explained(matching: Iterable[Policy]) -> tuple[Verdict, list[Policy]]:
    """The verdict of all policies that match, as in `check`, and those: DENY first, then by id."""
    ordered = sorted(matching, key=lambda policy: (policy.effect != Effect.DENY, policy.policy_id))
    return _verdict(ordered[0] if ordered else None), ordered


def _verdict(deciding: Policy | None) -> Verdict:
    if deciding is None:
        return Verdict(False, "", "no matching policy")
    allowed = deciding.effect == Effect.ALLOW
    done = "allowed" if allowed else "denied"
    return Verdict(allowed, deciding.policy_id, f'{done} by policy "{deciding.policy_id}"')


def fits(policy: Policy, subject: str, action: str, resource: str) -> bool:
    """Whether a policy matches."""
    return (
        matches(policy.resource, resource)
        and matches(policy.action, action)
        and matches(policy.subject, subject)
    )


def set_policy(state: State, command: SetPolicy) -> Result:
    """Create or replace a policy."""
    policy = command.policy
    old = state.policies.get(policy.policy_id)
    if old is None and len(state.policies) >= limits.POLICIES:
        return refusals.limit("policies", limits.POLICIES)
    was_pattern = old is not None and "*" in old.subject
    if (
        "*" in policy.subject
        and not was_pattern
        and state.policy_index.patterns >= limits.PATTERN_SUBJECTS
    ):
        return refusals.limit("policies with a wildcard in subject", limits.PATTERN_SUBJECTS)
    if old is not None:
        state.policy_index.drop(old)
    state.policies.put(policy.policy_id, policy)
    state.policy_index.put(policy)
    state.emit("policy.set", policy.policy_id, policy)
    return policy


def delete_policy(state: State, command: DeletePolicy) -> Result:
    """Delete a policy."""
    policy = state.policies.drop(command.policy_id)
    if policy is None:
        return refusals.not_found("policy", command.policy_id)
    state.policy_index.drop(policy)
    state.emit("policy.deleted", policy.policy_id, policy)
    return DONE
