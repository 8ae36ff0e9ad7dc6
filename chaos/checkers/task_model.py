"""The model of one task: PENDING, CLAIMED under a token, COMPLETED or DEAD.

As with leases, a claim that ends late breaks no promise, and one may end as soon as a ttl after the
start of its last extension, with its agent, or with a failure or completion of unknown outcome.
Claims whose answer was lost are made and given back unseen: they may show in a read, and in how
many claims ended without an answer.
"""

from __future__ import annotations

from typing import NamedTuple

from chaos.checkers.lease_model import unsure
from chaos.checkers.linearizability import Call, called
from chaos.checkers.lives import Lives, span_ns
from chaos.checkers.windows import Windows
from chaos.history import FOREVER_NS, Operation, Outcome

CLAIMS = 10
"""A task is DEAD once as many of its claims have ended without an answer."""
DEFAULT_TTL_S = 60.0
"""Of claims, where the creation asked for none."""


class Task(NamedTuple):
    """The state."""

    status: str
    """Empty before it is created."""
    agent: str = ""
    token: int = 0
    """The last that is known."""
    over_ns: int = 0
    """From when on the claim may be over."""
    retries: int = 0
    expired: int = 0
    """Claims that ended without an answer, as far as claims have told."""


NOWHERE = Task("")


LOOKS = frozenset(("seen", "unknown", "stale", "finished"))
"""Kinds of calls that only tell of the state."""


class What(NamedTuple):
    """A call and its answer."""

    kind: str
    agent: str = ""
    token: int = 0
    ttl_s: float = 0
    status: str = ""
    retries: int = 0
    expired: int = 0


TaskCall = Call[What]


class TaskModel:
    """The model of one task, made from the calls about it.

    `passing` are the times in which claims may have been made that nobody was told of;
    `forgettable` is whether there were so many tasks that finished ones may be gone.
    """

    def __init__(
        self, operations: list[Operation], lives: Lives, passing: Windows, forgettable: bool
    ) -> None:
        self._passing = passing
        self._forgettable = forgettable
        creations = [o.args for o in operations if o.call == "create"]
        self._retries = min((int(args.get("max_retries") or 0) for args in creations), default=0)
        ttls = (float(args.get("ttl") or DEFAULT_TTL_S) for args in creations)
        self._ttl_s = min(ttls, default=0.0)
        self._over: dict[int, int] = {}
        for operation in operations:
            if operation.call == "claim":
                token = operation.value["token"]
                dead_ns = lives.dead_from(operation.args["agent"], operation.client)
                self._may_be_over(token, dead_ns)
            elif unsure(operation) and "token" in operation.args:
                self._may_be_over(operation.args["token"], operation.start_ns)
        self.calls = [
            called(o, what, looks=what.kind in LOOKS)
            for o in operations
            if (what := _what(o)) is not None
        ]

    def _may_be_over(self, token: int, from_ns: int) -> None:
        self._over[token] = min(self._over.get(token, FOREVER_NS), from_ns)

    def step(self, task: Task, call: TaskCall) -> tuple[Task, ...]:
        """See `linearizability.Step`."""
        what = call.what
        match what.kind:
            case "created":
                # Again under the same idempotency key, it is the same.
                return (task,) if task.status else (Task("PENDING"),)
            case "claimed":
                return self._claimed(task, call)
            case "seen":
                return self._seen(task, call)
            case "unknown":
                gone = self._forgettable and task.status in ("COMPLETED", "DEAD")
                return (task,) if not task.status or gone else ()
            case _:
                return self._guarded(task, call)

    def _guarded(self, task: Task, call: TaskCall) -> tuple[Task, ...]:
        """What is to be done under the present token."""
        what = call.what
        named = task.agent == what.agent and task.token == what.token
        mine = task.status == "CLAIMED" and named
        match what.kind:
            case "completed":
                return (task._replace(status="COMPLETED"),) if mine else ()
            case "failed" if mine:
                if task.retries >= self._retries:
                    return (task._replace(status="DEAD"),)
                return (task._replace(status="PENDING", agent="", retries=task.retries + 1),)
            case "extended" if mine:
                return (task._replace(over_ns=self._over_ns(call)),)
            case "stale" if mine:
                over = call.end_ns >= task.over_ns
                return (task._replace(status="PENDING", agent=""),) if over else ()
            case "stale":
                return (task,) if task.status and not named else ()
            case "finished" if mine:
                return (task._replace(status="DEAD"),) if self._may_die(task, call) else ()
            case "finished":
                return (task,) if named and task.status in ("COMPLETED", "DEAD") else ()
        return ()

    def _claimed(self, task: Task, call: TaskCall) -> tuple[Task, ...]:
        what = call.what
        free = task.status == "PENDING" or self._is_over(task, call)
        counted = what.retries == task.retries and what.expired >= task.expired
        if not free or not counted or what.token <= task.token:
            return ()
        over_ns = self._over_ns(call)
        return (Task("CLAIMED", what.agent, what.token, over_ns, what.retries, what.expired),)

    def _seen(self, task: Task, call: TaskCall) -> tuple[Task, ...]:
        what = call.what
        if not task.status or what.retries != task.retries:
            return ()
        match what.status:
            case "CLAIMED":
                if task.status == "CLAIMED" and what.token == task.token:
                    return (task,)
                free = task.status == "PENDING" or self._is_over(task, call)
                if free and self._passes(call) and what.token > task.token:
                    return (task._replace(status="CLAIMED", agent="", token=what.token, over_ns=0),)
            case task.status:
                return (task,)
            case "PENDING" if self._is_over(task, call):
                return (task._replace(status="PENDING", agent=""),)
            case "DEAD" if self._may_die(task, call):
                return (task._replace(status="DEAD"),)
        return ()

    def _is_over(self, task: Task, call: TaskCall) -> bool:
        return task.status == "CLAIMED" and call.end_ns >= task.over_ns

    def _may_die(self, task: Task, call: TaskCall) -> bool:
        """Whether it may be DEAD because its claims ended without an answer."""
        if self._passes(call) and task.status == "PENDING":
            return True
        return self._is_over(task, call) and (task.expired + 1 >= CLAIMS or self._passes(call))

    def _passes(self, call: TaskCall) -> bool:
        """Whether there may have been a claim during the call that nobody was told of."""
        return self._passing.meet(call.start_ns, call.end_ns)

    def _over_ns(self, call: TaskCall) -> int:
        ttl_s = call.what.ttl_s or self._ttl_s
        over_ns = call.start_ns + span_ns(ttl_s)
        return min(over_ns, self._over.get(call.what.token, FOREVER_NS))


def passing_claims(operations: list[Operation], withdrawal_ns: int) -> Windows:
    """When there may have been claims that nobody was told of."""
    return Windows(
        (o.start_ns, _passing_until(o, withdrawal_ns)) for o in operations if o.call == "claim"
    )


def _passing_until(operation: Operation, withdrawal_ns: int) -> int:
    if unsure(operation):
        return FOREVER_NS
    if operation.outcome is Outcome.UNAVAILABLE:
        return operation.end_ns + withdrawal_ns
    return operation.end_ns


def _what(operation: Operation) -> What | None:
    args, outcome = operation.args, operation.outcome
    agent, token = args.get("agent", ""), args.get("token", 0)
    if outcome is Outcome.UNAVAILABLE:
        return None
    if outcome is Outcome.REFUSED:
        return _refused(operation, agent, token)
    match operation.call:
        case "create":
            return What("created")
        case "complete":
            return What("completed", agent, token)
        case "fail":
            return What("failed", agent, token)
    return _answered(operation, agent, token) if outcome is Outcome.OK else None


def _refused(operation: Operation, agent: str, token: int) -> What | None:
    guarded = operation.call in ("complete", "fail", "extend")
    match operation.error:
        case "StaleToken" if guarded:
            return What("stale", agent, token)
        case "Refused" if guarded:
            return What("finished", agent, token)
        case "NotFound" if operation.call == "get":
            return What("unknown")
    return None


def _answered(operation: Operation, agent: str, token: int) -> What | None:
    value = operation.value
    match operation.call:
        case "extend":
            return What("extended", agent, token, float(operation.args.get("ttl") or 0))
        case "claim":
            counts = {"retries": value["retry_count"], "expired": value.get("expired_claims", 0)}
            return What("claimed", agent, value["token"], **counts)
        case "get":
            status = str(value["status"]).upper()
            return What("seen", "", value["token"], 0, status, value["retry_count"])
    return None
