"""Files of policies and of expected decisions, YAML or JSON; and how they differ from what is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import yaml

from agentkeeper.core.policies import PolicyIndex
from agentkeeper.core.records import Effect
from agentkeeper.core.records import Policy as PolicyRecord
from agentkeeper.types import Policy, PolicyEffect

POLICY_KEYS = frozenset({"id", "subject", "action", "resource", "effect"})
CASE_KEYS = frozenset({"subject", "action", "resource", "expect", "policy"})
EFFECTS = {"ALLOW": PolicyEffect.ALLOW, "DENY": PolicyEffect.DENY}


class FileError(ValueError):
    """A file does not say what it should; the message names the entry."""


class Change(NamedTuple):
    """One step from the policies there are to those wanted."""

    kind: Literal["add", "change", "delete"]
    policy: Policy


class Case(NamedTuple):
    """A question and the decision that is expected."""

    subject: str
    action: str
    resource: str
    expect: PolicyEffect
    policy: str
    """Which policy is to decide; empty: whichever."""

    def fields(self) -> dict[str, str]:
        """Return it as plain data."""
        return {**self._asdict(), "expect": self.expect.value}

    def passes(self, allowed: bool, policy_id: str) -> bool:
        """Whether a decision is the expected one."""
        return verdict_of(allowed) == self.expect.value and self.policy in ("", policy_id)


def read_policies(text: str) -> list[Policy]:
    """Return the policies of a file: a list of them, or one under the key `policies`.

    Raises FileError.
    """
    policies = []
    for where, entry in _entries(text, "policies", POLICY_KEYS, POLICY_KEYS):
        fields = {key: _word(entry[key], f"{where}.{key}") for key in POLICY_KEYS - {"effect"}}
        policies.append(Policy(**fields, effect=_effect(entry["effect"], f"{where}.effect")))
    ids = [policy.id for policy in policies]
    for policy_id in ids:
        if ids.count(policy_id) > 1:
            raise FileError(f"there are two policies of id {policy_id!r}")
    return policies


def read_cases(text: str) -> list[Case]:
    """Return the cases of a file: a list of them, or one under the key `tests`.

    Raises FileError.
    """
    cases = []
    for where, entry in _entries(text, "tests", CASE_KEYS, CASE_KEYS - {"policy"}):
        fields = {
            key: _word(entry[key], f"{where}.{key}") for key in ("subject", "action", "resource")
        }
        policy = _word(entry.get("policy", ""), f"{where}.policy")
        expect = _effect(entry["expect"], f"{where}.expect")
        cases.append(Case(**fields, expect=expect, policy=policy))
    return cases


def changes_between(
    present: Iterable[Policy], wanted: Sequence[Policy], *, prune: bool
) -> list[Change]:
    """Return what makes `present` into `wanted`; without `prune`, others are left alone.

    In such an order that, as long as no policy keeps its effect and changes what it is about,
    nothing is allowed on the way that is allowed neither before nor after.
    """
    known = {policy.id: policy for policy in present}
    kept = {policy.id for policy in wanted}
    steps = [
        Change("change" if policy.id in known else "add", policy)
        for policy in wanted
        if known.get(policy.id) != policy
    ]
    if prune:
        gone = (policy for policy_id, policy in known.items() if policy_id not in kept)
        steps += [Change("delete", policy) for policy in gone]

    def rank(step: Change) -> int:
        denies = step.policy.effect is PolicyEffect.DENY
        if step.kind == "delete":
            return 4 if denies else 1
        before = known.get(step.policy.id)
        denied = before is not None and before.effect is PolicyEffect.DENY
        return (2 if denied else 0) if denies else 3

    return sorted(steps, key=rank)


def decider(policies: Iterable[Policy]) -> PolicyIndex:
    """Return what decides by these policies as a cluster that has them would."""
    index = PolicyIndex()
    for policy in policies:
        effect = Effect[policy.effect.value]
        index.put(PolicyRecord(policy.id, policy.subject, policy.action, policy.resource, effect))
    return index


def verdict_of(allowed: bool) -> str:
    """Return a decision in one word."""
    return "ALLOW" if allowed else "DENY"


def text_of(policy: Policy) -> str:
    """Return a policy in one line."""
    what = f"{policy.subject} {policy.action} {policy.resource}"
    return f"{policy.id}: {policy.effect.value} {what}"


def _entries(
    text: str, key: str, known: frozenset[str], needed: frozenset[str]
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    try:
        content = yaml.safe_load(text)  # JSON is YAML too
    except yaml.YAMLError as error:
        raise FileError(f"neither YAML nor JSON: {error}") from None
    if isinstance(content, Mapping):
        if set(content) != {key}:
            raise FileError(f"has {', '.join(map(str, content)) or 'nothing'}: expected {key}")
        content = content[key]
    if not isinstance(content, list):
        raise FileError(f"{key} must be a list")
    for number, entry in enumerate(content):
        where = f"{key}[{number}]"
        if not isinstance(entry, Mapping):
            raise FileError(f"{where} must have {', '.join(sorted(needed))}")
        for name, of in (("unknown", set(entry) - known), ("missing", needed - set(entry))):
            if of:
                raise FileError(f"{where}: {name}: {', '.join(sorted(map(str, of)))}")
        yield where, entry


def _word(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise FileError(f"{where} must be text, not {value!r}: put it in quotes")
    return value


def _effect(value: Any, where: str) -> PolicyEffect:
    effect = EFFECTS.get(str(value).upper())
    if effect is None:
        raise FileError(f"{where} must be ALLOW or DENY, not {value!r}")
    return effect
