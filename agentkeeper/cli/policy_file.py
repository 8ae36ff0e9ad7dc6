"""Files of policies and of expected decisions, YAML or JSON; and how they differ from what is."""

from __future__ import annotations

import collections
import reprlib
import unicodedata
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import yaml

from agentkeeper.core import limits
from agentkeeper.core.policies import PolicyIndex
from agentkeeper.core.records import Effect
from agentkeeper.core.records import Policy as PolicyRecord
from agentkeeper.types import Policy, PolicyEffect

POLICY_KEYS = frozenset({"id", "subject", "action", "resource", "effect"})
CASE_KEYS = frozenset({"subject", "action", "resource", "expect", "policy"})
BOUNDS_BYTES = {
    "id": limits.NAME_BYTES,
    "policy": limits.NAME_BYTES,
    "subject": limits.PATTERN_BYTES,
    "action": limits.PATTERN_BYTES,
    "resource": limits.PATTERN_BYTES,
}
"""What the cluster takes: a file is refused whole, before anything of it is applied."""
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
        fields = {key: _word(entry, key, where) for key in POLICY_KEYS - {"effect"}}
        policies.append(Policy(**fields, effect=_effect(entry["effect"], f"{where}.effect")))
    counts = collections.Counter(policy.id for policy in policies)
    policy_id, count = counts.most_common(1)[0] if counts else ("", 0)
    if count > 1:
        raise FileError(f"there are two policies of id {policy_id!r}")
    if len(policies) > limits.POLICIES:
        raise FileError(f"{len(policies)} policies, more than {limits.POLICIES}")
    patterns = sum("*" in policy.subject for policy in policies)
    if patterns > limits.PATTERN_SUBJECTS:
        most = limits.PATTERN_SUBJECTS
        raise FileError(f"{patterns} policies with a wildcard in subject, more than {most}")
    return policies


def read_cases(text: str) -> list[Case]:
    """Return the cases of a file: a list of them, or one under the key `tests`.

    Raises FileError, also where there is none: nothing would be tested.
    """
    cases = []
    for where, entry in _entries(text, "tests", CASE_KEYS, CASE_KEYS - {"policy"}):
        fields = {key: _word(entry, key, where) for key in ("subject", "action", "resource")}
        policy = _word(entry, "policy", where) if "policy" in entry else ""
        expect = _effect(entry["expect"], f"{where}.expect")
        cases.append(Case(**fields, expect=expect, policy=policy))
    if not cases:
        raise FileError("has no tests")
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
    """Return the effect that a decision comes to."""
    return "ALLOW" if allowed else "DENY"


def decision_of(allowed: bool) -> str:
    """Return a decision as the dashboard says it."""
    return "ALLOWED" if allowed else "DENIED"


def text_of(policy: Policy) -> str:
    """Return a policy in one line."""
    what = f"{policy.subject} {policy.action} {policy.resource}"
    return f"{policy.id}: {policy.effect.value} {what}"


def _entries(
    text: str, key: str, known: frozenset[str], needed: frozenset[str]
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise FileError(f"neither YAML nor JSON: {error}") from None
    except RecursionError:
        raise FileError("nested too deeply") from None
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


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice: one of the two would silently not hold."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"there are two keys {key.value!r}", key.start_mark
                )
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _word(entry: Mapping[str, Any], key: str, where: str) -> str:
    """What the cluster takes as a line of text."""
    value = entry[key]
    named = f"{where}.{key}"
    if not isinstance(value, str):
        raise FileError(f"{named} must be text, not {reprlib.repr(value)}: put it in quotes")
    if not value:
        raise FileError(f"{named} must not be empty")
    if len(value.encode(errors="surrogatepass")) > BOUNDS_BYTES[key]:
        raise FileError(f"{named} is longer than {BOUNDS_BYTES[key]} bytes")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in value):
        raise FileError(f"{named} has a control character: {reprlib.repr(value)}")
    return value


def _effect(value: Any, where: str) -> PolicyEffect:
    effect = EFFECTS.get(str(value).upper()) if isinstance(value, str) else None
    if effect is None:
        raise FileError(f"{where} must be ALLOW or DENY, not {reprlib.repr(value)}")
    return effect
