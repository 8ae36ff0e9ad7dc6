"""The model of one lease: who holds it, under which token, and from when on that may be over.

A hold that ends late breaks no promise, one that ends early does. So a call whose answer implies
that a hold is over is allowed only if the call ended when that could be: a ttl after the start of
the last renewal that was linearized, or after anything that may have ended it: a release whose
outcome is unknown, the death of its agent, an acquisition anew.

Beside those answered, there may be passing grants: to a call in line that is not there to confirm
it, to one whose answer was lost. They may be seen, and may end at any time.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from chaos.checkers.linearizability import Call, called
from chaos.checkers.lives import NS, Lives, span_ns
from chaos.checkers.windows import Windows
from chaos.history import FOREVER_NS, Operation, Outcome

LOCAL = 0.98
"""The part of a ttl after which a client that renews by itself may give up, and give back."""
WITHDRAWAL_NS = 60 * NS
"""How long after an acquisition in vain a grant to it may still pass, beyond the wait."""


class Hold(NamedTuple):
    """The state: nobody holds it if `holder` is empty; `token` is the last one then."""

    holder: str
    token: int
    over_ns: int
    """From when on it may be over."""


FREE = Hold("", 0, 0)


LOOKS = frozenset(("held by another", "seen", "free", "stale", "not found", "valid", "invalid"))
"""Kinds of calls that only tell of the state."""


class What(NamedTuple):
    """A call and its answer."""

    kind: str
    agent: str = ""
    token: int = 0
    ttl_s: float = 0
    exclusive: bool = False
    """Whether the holder itself is to be refused, too."""


LeaseCall = Call[What]


class LeaseModel:
    """The model of one key, made from the calls about it."""

    def __init__(self, operations: list[Operation], lives: Lives) -> None:
        self._lives = lives
        self._over = _over(operations, lives)
        acquisitions = [operation for operation in operations if operation.call == "acquire"]
        self._passing = _windows(acquisitions)
        self._passing_unanswered = _windows(
            [operation for operation in acquisitions if operation.outcome is not Outcome.OK]
        )
        self.calls = [
            called(operation, what, looks=what.kind in LOOKS)
            for operation in operations
            if (what := _what(operation)) is not None
        ]

    def step(self, hold: Hold, call: LeaseCall) -> tuple[Hold, ...]:
        """See `linearizability.Step`."""
        what = call.what
        mine = hold.holder == what.agent and hold.token == what.token and hold.holder != ""
        over = hold.holder == "" or call.end_ns >= hold.over_ns
        match what.kind:
            case "granted":
                anew = hold.holder == what.agent and not what.exclusive
                rises = what.token > hold.token
                return (self._held(what, call),) if rises and (over or anew) else ()
            case "renewed":
                return (self._held(what, call),) if mine else ()
            case "released":
                return (Hold("", hold.token, 0),) if mine else ()
            case "held by another":
                return self._held_by_another(hold, call, over)
            case "stale":
                return self._stale(hold, call, mine, over)
            case "not found":
                return self._not_found(hold, call, over)
        return self._read(hold, call, mine, over)

    def _read(self, hold: Hold, call: LeaseCall, mine: bool, over: bool) -> tuple[Hold, ...]:
        what = call.what
        present = hold.holder != "" and hold.token == what.token
        match what.kind:
            case "seen" if mine:
                return (hold,)
            case "seen":
                free = over or hold.holder == what.agent
                if free and what.token > hold.token and self._passes(what.agent, call):
                    return (Hold(what.agent, what.token, 0),)
            case "valid":
                return (hold,) if present else ()
            case "invalid" if not present:
                return (hold,)
            case "free" | "invalid":
                return (Hold("", hold.token, 0),) if over else ()
        return ()

    def _held(self, what: What, call: LeaseCall) -> Hold:
        over_ns = call.start_ns + span_ns(what.ttl_s)
        return Hold(what.agent, what.token, min(over_ns, self._over.get(what.token, FOREVER_NS)))

    def _held_by_another(self, hold: Hold, call: LeaseCall, over: bool) -> tuple[Hold, ...]:
        if hold.holder and (call.what.exclusive or hold.holder != call.what.agent):
            return (hold,)
        if not over or not self._passes_to_any(call):
            return ()
        return (Hold("", hold.token, 0),)

    def _stale(self, hold: Hold, call: LeaseCall, mine: bool, over: bool) -> tuple[Hold, ...]:
        if hold.holder and not mine:
            return (hold,)
        if not over or not self._passes_to_any(call):
            return ()
        return (Hold("", hold.token, 0),)

    def _not_found(self, hold: Hold, call: LeaseCall, over: bool) -> tuple[Hold, ...]:
        """The lease or the agent is not there."""
        if over:
            return (Hold("", hold.token, 0),)
        agent = call.what.agent
        client = "" if call.source is None else call.source.client
        dead = call.end_ns >= self._lives.dead_from(agent, client)
        return (hold,) if dead and hold.holder != agent else ()

    def _passes(self, agent: str, call: LeaseCall) -> bool:
        """Whether `agent` may have had a passing grant during the call."""
        windows = self._passing.get(agent)
        return windows is not None and windows.meet(call.start_ns, call.end_ns)

    def _passes_to_any(self, call: LeaseCall) -> bool:
        """Whether there may have been a grant in the way of the call, other than its own."""
        own = self._passing_unanswered.get(call.what.agent)
        if own is not None and own.meet(call.start_ns, call.end_ns):
            return True
        return any(a != call.what.agent and self._passes(a, call) for a in self._passing)


def _what(operation: Operation) -> What | None:
    """What a call tells of the lease; None if nothing."""
    args = operation.args
    agent, token = args.get("agent", ""), args.get("token", 0)
    if operation.outcome is Outcome.OK:
        return _answered(operation, agent, token)
    if operation.outcome is not Outcome.REFUSED:
        # Renewals and releases of unknown outcome are in `_over`, acquisitions pass.
        return None
    match operation.call, operation.error:
        case "get", "NotFound":
            return What("free")
        case "renew" | "release", "StaleToken":
            return What("stale", agent, token)
        case "renew" | "release", "NotFound":
            return What("not found", agent, token)
    return None


def _answered(operation: Operation, agent: str, token: int) -> What | None:
    value, ttl_s = operation.value, float(operation.args.get("ttl") or 0)
    exclusive = bool(operation.args.get("exclusive"))
    match operation.call:
        case "acquire" if value is None:
            return What("held by another", agent, exclusive=exclusive)
        case "acquire":
            if operation.args.get("keep_alive"):
                ttl_s *= LOCAL
            return What("granted", agent, value["token"], ttl_s, exclusive)
        case "renew":
            return What("renewed", agent, token, ttl_s)
        case "release":
            return What("released", agent, token)
        case "get":
            return What("seen", value["holder"], value["token"])
        case "verify":
            return What("valid" if value["valid"] else "invalid", token=token)
    return None


def _over(operations: list[Operation], lives: Lives) -> dict[int, int]:
    """By token, from when on its hold may be over, whatever its ttl."""
    over: dict[int, int] = {}

    def may_be_over(token: int, from_ns: int) -> None:
        over[token] = min(over.get(token, FOREVER_NS), from_ns)

    held: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        agent = operation.args.get("agent", "")
        granted = operation.call == "acquire" and operation.outcome is Outcome.OK
        if granted and operation.value is not None:
            held[agent].append(operation)
            may_be_over(operation.value["token"], lives.dead_from(agent, operation.client))
        elif operation.call == "acquire" and not operation.args.get("exclusive"):
            for former in held[agent]:
                may_be_over(former.value["token"], operation.start_ns)
        elif operation.call in ("renew", "release") and unsure(operation):
            may_be_over(operation.args["token"], operation.start_ns)
    return over


def unsure(operation: Operation) -> bool:
    """Whether a call under a token may have ended the hold, or made it shorter, unknown to us.

    That goes for renewals too: by a shorter ttl, and as the client gives back what it can't count
    on any more when the answer comes.
    """
    return operation.outcome in (Outcome.UNKNOWN, Outcome.BROKEN)


def _windows(acquisitions: list[Operation]) -> dict[str, Windows]:
    """By agent, when grants to it may have passed that no answer tells of."""
    windows: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for operation in acquisitions:
        wait_ns = int(float(operation.args.get("wait") or 0) * NS)
        if unsure(operation):
            until_ns = FOREVER_NS
        elif not wait_ns:
            continue  # granted and answered at once, or not at all
        elif operation.outcome is Outcome.UNAVAILABLE:
            until_ns = operation.end_ns + wait_ns + WITHDRAWAL_NS
        else:
            until_ns = operation.end_ns
        windows[operation.args["agent"]].append((operation.start_ns, until_ns))
    return {agent: Windows(of_agent) for agent, of_agent in windows.items()}
