"""The model of one agent's registration."""

from __future__ import annotations

from typing import NamedTuple

from chaos.checkers.linearizability import Call, called
from chaos.checkers.lives import NS, Lives
from chaos.history import Operation, Outcome

NOWHERE, THERE = "", "there"
"""States beside the reasons of death. One that is there is ALIVE or UNREACHABLE."""
DEREGISTERED, TIMED_OUT = "deregistered", "timed_out"
REMEMBERED_NS = 3_500 * NS
"""A DEAD agent may be forgotten after an hour."""


LOOKS = frozenset(("seen", "alive", "unknown", "not there"))
"""Kinds of calls that only tell of the state."""


class What(NamedTuple):
    """A call and its answer."""

    kind: str
    status: str = ""
    reason: str = ""


AgentCall = Call[What]


class AgentModel:
    """The model of one agent, made from the calls about it."""

    def __init__(self, agent: str, operations: list[Operation], lives: Lives) -> None:
        self._silent_ns = lives.silent_from(agent)
        self._timed_out_ns = lives.timed_out_from(agent)
        self._forgotten_ns = min(o.start_ns for o in operations) + REMEMBERED_NS
        self.calls = [
            called(o, what, looks=what.kind in LOOKS)
            for o in operations
            if (what := _what(o)) is not None
        ]

    def step(self, state: str, call: AgentCall) -> tuple[str, ...]:
        """See `linearizability.Step`."""
        may_time_out = state == THERE and call.end_ns >= self._timed_out_ns
        match call.what.kind:
            case "registered":
                return (THERE,) if state == NOWHERE else ()
            case "deregistered":
                return (DEREGISTERED,) if state == THERE else ()
            case "alive":
                return (state,) if state == THERE else ()
            case "not there":
                if state == THERE:
                    return (TIMED_OUT,) if may_time_out else ()
                return (state,)
            case "unknown":
                forgotten = state not in (NOWHERE, THERE) and call.end_ns >= self._forgotten_ns
                return (state,) if state == NOWHERE or forgotten else ()
            case "seen":
                return self._seen(state, call, may_time_out)
        return ()

    def _seen(self, state: str, call: AgentCall, may_time_out: bool) -> tuple[str, ...]:
        status, reason = call.what.status, call.what.reason
        if status == "DEAD":
            if state == reason and reason:
                return (state,)
            return (TIMED_OUT,) if may_time_out and reason == TIMED_OUT else ()
        if status == "UNREACHABLE" and call.end_ns < self._silent_ns:
            return ()
        return (state,) if state == THERE else ()


def _what(operation: Operation) -> What | None:
    if operation.outcome is Outcome.UNAVAILABLE:
        return None
    if operation.outcome is Outcome.REFUSED:
        if operation.error not in ("NotFound", "AgentLost"):
            return None
        match operation.call:
            case "get":
                return What("unknown")
            case "deregister" | "heartbeat" if operation.error == "NotFound":
                return What("not there")
        return None
    match operation.call:
        case "register":
            return What("registered")
        case "deregister":
            return What("deregistered")
        case "heartbeat" if operation.outcome is Outcome.OK:
            return What("alive")
        case "get" if operation.outcome is Outcome.OK:
            value = operation.value
            return What("seen", str(value["status"]).upper(), value.get("reason", ""))
    return None
