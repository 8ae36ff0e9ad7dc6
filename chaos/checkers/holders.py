"""Holds of leases and claims of tasks: never two at once, and none ended early."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from chaos.checkers.lease_model import LOCAL, unsure
from chaos.checkers.lives import Lives, span_ns
from chaos.checkers.models import by_task
from chaos.checkers.task_model import DEFAULT_TTL_S
from chaos.checkers.verdict import Findings, Verdict
from chaos.history import FOREVER_NS, History, Operation, Outcome

_STALE = ("StaleToken", "NotFound")
_PROLONG = ("renew", "extend")


@dataclass
class Hold:
    """A grant, and what its holder did under its token."""

    granted: Operation
    ttl_s: float
    over_ns: int = FOREVER_NS
    """From when on it may be over for other reasons than its ttl."""
    later: list[Operation] = field(default_factory=list)
    """Calls under its token, by start."""

    @property
    def token(self) -> int:
        """Its fencing token."""
        return int(self.granted.value["token"])

    def certain_until(self) -> int:
        """Until when the holder could be certain of it."""
        return self.may_be_over(FOREVER_NS)

    def may_be_over(self, before_ns: int) -> int:
        """From when on it may be over, as of the renewals that ended before a time."""
        last, ttl_s = self.granted, self.ttl_s
        for operation in self.later:
            answered = operation.outcome is Outcome.OK and operation.end_ns <= before_ns
            if operation.call in _PROLONG and answered:
                last, ttl_s = operation, float(operation.args.get("ttl") or self.ttl_s)
        part = LOCAL if self.granted.args.get("keep_alive") else 1.0
        return min(self.over_ns, last.start_ns + span_ns(ttl_s * part))


def check_holders(history: History, lives: Lives) -> list[Verdict]:
    """All checks of leases and claims that need no search."""
    leases, claims = leases_held(history, lives), _claims(history, lives)
    return [
        _overlaps(history, leases, "holders of leases", "a lease"),
        _early(history, leases, "leases not ended early", "lease"),
        _overlaps(history, claims, "claimants of tasks", "a task"),
        _early(history, claims, "claims not ended early", "claim"),
        _store(history),
    ]


def leases_held(history: History, lives: Lives) -> dict[str, list[Hold]]:
    """The acknowledged holds of each lease, by token."""
    keyed: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in history.of("leases"):
        keyed[operation.key].append(operation)
    holds: dict[str, list[Hold]] = {}
    for key, operations in keyed.items():
        holds[key] = _holds(operations, lives, "acquire")
        for hold in holds[key]:
            agent = hold.granted.args["agent"]
            for operation in operations:
                anew = operation.call == "acquire" and operation.args["agent"] == agent
                superseding = anew and not operation.args.get("exclusive")
                if superseding and operation.start_ns >= hold.granted.end_ns:
                    hold.over_ns = min(hold.over_ns, operation.start_ns)
                    break
    return holds


def _claims(history: History, lives: Lives) -> dict[str, list[Hold]]:
    return {
        task_id: _holds(operations, lives, "claim")
        for task_id, operations in by_task(history.of("tasks")).items()
    }


def _holds(operations: Iterable[Operation], lives: Lives, call: str) -> list[Hold]:
    """The holds of one key, by token."""
    by_token: dict[int, Hold] = {}
    task_ttl_s = DEFAULT_TTL_S
    later: list[Operation] = []
    for operation in operations:
        if operation.call == call and operation.outcome is Outcome.OK and operation.value:
            ttl_s = float(operation.args.get("ttl") or 0)
            over_ns = lives.dead_from(operation.args["agent"], operation.client)
            by_token[operation.value["token"]] = Hold(operation, ttl_s, over_ns)
        elif operation.call == "create":
            task_ttl_s = float(operation.args.get("ttl") or DEFAULT_TTL_S)
        elif operation.call not in ("get", "verify") and "token" in operation.args:
            later.append(operation)
    for hold in by_token.values():
        hold.ttl_s = hold.ttl_s or task_ttl_s
    for operation in later:
        named = by_token.get(operation.args["token"])
        if named is None or named.granted.args["agent"] != operation.args["agent"]:
            continue
        named.later.append(operation)
        done = operation.call not in _PROLONG and operation.outcome is Outcome.OK
        if done or unsure(operation):
            named.over_ns = min(named.over_ns, operation.start_ns)
    return sorted(by_token.values(), key=lambda hold: hold.token)


def _overlaps(history: History, holds: dict[str, list[Hold]], name: str, what: str) -> Verdict:
    """The next one was granted by the end of its call: the one before must not be certain then."""
    findings = Findings(history)
    for key, of_key in holds.items():
        findings.checked += len(of_key)
        certain_ns, certain = 0, None
        for hold in of_key:
            if certain is not None and hold.granted.end_ns < certain_ns:
                said = f"{key!r} was given under {hold.token} while certainly held"
                findings.add(f"{said} under {certain.token}", certain.granted, hold.granted)
            until_ns = hold.certain_until()
            if until_ns > certain_ns:
                certain_ns, certain = until_ns, hold
    return findings.verdict(name, f"Nobody is given {what} while another is certain to hold it.")


def _early(history: History, holds: dict[str, list[Hold]], name: str, what: str) -> Verdict:
    findings = Findings(history)
    for of_key in holds.values():
        for hold in of_key:
            for operation in hold.later:
                findings.checked += 1
                stale = operation.outcome is Outcome.REFUSED and operation.error in _STALE
                if stale and operation.end_ns < hold.may_be_over(operation.start_ns):
                    said = f"{hold.granted.key!r}: token {hold.token} was refused before its time"
                    findings.add(said, hold.granted, operation)
    return findings.verdict(
        name, f"Who renews a {what} within its ttl is never told that it has ended."
    )


def _store(history: History) -> Verdict:
    findings = Findings(history)
    highest: dict[str, int] = {}
    writers: dict[tuple[str, int], str] = {}
    for write in history.writes:
        findings.checked += 1
        if not write.accepted:
            continue
        if write.token < highest.get(write.key, 0):
            said = f"{write.key!r}: a write under {write.token} was accepted"
            findings.add(f"{said} after one under {highest[write.key]}")
        highest[write.key] = max(write.token, highest.get(write.key, 0))
        writer = writers.setdefault((write.key, write.token), write.client)
        if writer != write.client:
            said = f"{write.key!r}: both {writer} and {write.client} wrote"
            findings.add(f"{said} under token {write.token}")
    return findings.verdict(
        "fenced writes", "Tokens of accepted writes never fall, and each has one writer."
    )
