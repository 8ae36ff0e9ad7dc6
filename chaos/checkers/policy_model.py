"""The model of the policies about one subject: a register of effects by policy id."""

from __future__ import annotations

from typing import NamedTuple

from chaos.checkers.linearizability import Call, called
from chaos.history import Operation, Outcome

Policies = tuple[tuple[str, str], ...]
"""The state: ids with effects, by id."""


LOOKS = frozenset(("not found", "allowed", "refused"))
"""Kinds of calls that only tell of the state."""


class What(NamedTuple):
    """A call and its answer."""

    kind: str
    policy_id: str = ""
    effect: str = ""


PolicyCall = Call[What]


def calls_of(operations: list[Operation]) -> list[PolicyCall]:
    """What the calls about one subject tell."""
    return [
        called(o, what, looks=what.kind in LOOKS)
        for o in operations
        if (what := _what(o)) is not None
    ]


def step(policies: Policies, call: PolicyCall) -> tuple[Policies, ...]:
    """See `linearizability.Step`."""
    what = call.what
    there = any(policy_id == what.policy_id for policy_id, _ in policies)
    others = tuple(pair for pair in policies if pair[0] != what.policy_id)
    match what.kind:
        case "set":
            return (tuple(sorted((*others, (what.policy_id, what.effect)))),)
        case "deleted":
            return (others,) if there else ()
        case "not found":
            return () if there else (policies,)
        case "allowed" | "refused":
            effects = {effect for _, effect in policies}
            allowed = "ALLOW" in effects and "DENY" not in effects
            return (policies,) if allowed == (what.kind == "allowed") else ()
    return ()


def _what(operation: Operation) -> What | None:
    policy_id = str(operation.args.get("id", ""))
    if operation.outcome is Outcome.UNAVAILABLE:
        return None
    if operation.outcome is Outcome.REFUSED:
        missing = operation.call == "delete" and operation.error == "NotFound"
        return What("not found", policy_id) if missing else None
    match operation.call:
        case "set":
            return What("set", policy_id, str(operation.args["effect"]).upper())
        case "delete":
            return What("deleted", policy_id)
        case "check" if operation.outcome is Outcome.OK:
            return What("allowed" if operation.value["allowed"] else "refused")
    return None
