"""The model of one election: the candidates in the order in which they came, and the term."""

from __future__ import annotations

from typing import Any, NamedTuple

from chaos.checkers.linearizability import Call, called
from chaos.checkers.lives import Lives
from chaos.history import FOREVER_NS, Operation, Outcome

NAMED = 100
"""Candidates that an answer names at most."""


class Group(NamedTuple):
    """The state. The first candidate leads."""

    term: int
    candidates: tuple[str, ...]


EMPTY = Group(0, ())


LOOKS = frozenset(("seen", "not found"))
"""Kinds of calls that only tell of the state."""


class What(NamedTuple):
    """A call and what it was answered, if it was."""

    kind: str
    agent: str = ""
    answer: dict[str, Any] | None = None


ElectionCall = Call[What]


class ElectionModel:
    """The model of one group, made from the calls about it and the deaths of its candidates."""

    def __init__(
        self, operations: list[Operation], lives: Lives, departures: dict[str, Operation]
    ) -> None:
        """`departures` are the deregistrations of agents, by agent."""
        self._lives = lives
        self.calls = [
            called(operation, what, looks=what.kind in LOOKS)
            for operation in operations
            if (what := _what(operation)) is not None
        ]
        clients = {o.args["agent"]: o.client for o in operations if o.call == "campaign"}
        self._dead_from = {a: lives.dead_from(a, client) for a, client in clients.items()}
        for agent, client in clients.items():
            left = departures.get(agent)
            if left is not None:
                self.calls.append(called(left, What("leaves", agent)))
            died_ns = lives.timed_out_from(agent, client)
            if died_ns < FOREVER_NS:
                self.calls.append(Call(died_ns, FOREVER_NS, What("leaves", agent)))

    def step(self, group: Group, call: ElectionCall) -> tuple[Group, ...]:
        """See `linearizability.Step`."""
        what = call.what
        match what.kind:
            case "leaves":
                return self._without(group, what.agent, call.end_ns)
            case "campaign":
                joined = _with(group, what.agent)
                if what.answer is None or _brief(joined) == _brief_of(what.answer):
                    return (joined,)
            case "seen":
                answer = what.answer or {}
                candidates = list(group.candidates[:NAMED])
                if _brief(group) == _brief_of(answer) and candidates == answer["candidates"]:
                    return (group,)
            case "not found":
                return (group,) if group == EMPTY else ()
        return ()

    def _without(self, group: Group, agent: str, end_ns: int) -> tuple[Group, ...]:
        """Those behind a leader who leaves may be passed over if they are about to die as well."""
        if agent not in group.candidates:
            return (group,)
        rest = tuple(c for c in group.candidates if c != agent)
        if group.candidates[0] != agent:
            return (Group(group.term, rest),)
        following = [_led(group.term, rest)]
        while rest and self._dead_from.get(rest[0], FOREVER_NS) <= end_ns:
            rest = rest[1:]
            following.append(_led(group.term, rest))
        return tuple(following)


def _what(operation: Operation) -> What | None:
    agent, value = operation.args.get("agent", ""), operation.value
    open_ended = operation.outcome in (Outcome.UNKNOWN, Outcome.BROKEN)
    if operation.outcome is not Outcome.OK and not open_ended:
        if operation.call == "get" and operation.error == "NotFound":
            return What("not found")
        return None
    match operation.call:
        case "campaign":
            return What("campaign", agent, None if open_ended else value)
        case "resign":
            return What("leaves", agent)
        case "get" if not open_ended:
            return What("seen", answer=value)
    return None


def _with(group: Group, agent: str) -> Group:
    if agent in group.candidates:
        return group
    term = group.term if group.candidates else group.term + 1
    return Group(term, (*group.candidates, agent))


def _led(term: int, candidates: tuple[str, ...]) -> Group:
    return Group(term + 1 if candidates else term, candidates)


def _brief(group: Group) -> tuple[str, int]:
    return (group.candidates[0] if group.candidates else "", group.term)


def _brief_of(answer: dict[str, Any]) -> tuple[str, int]:
    return (answer["leader"] or "", answer["term"])
