"""Tokens and terms: never given twice, never falling."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from chaos.checkers.verdict import Findings, Verdict
from chaos.history import History, Operation, Outcome


class Given(NamedTuple):
    """A number that an answer carried."""

    number: int
    operation: Operation


def check_tokens(history: History) -> Verdict:
    """Tokens of leases and claims, over all keys."""
    findings = Findings(history)
    given = [Given(o.value["token"], o) for o in history.operations if _grants(o)]
    findings.checked = len(given)
    by_token: dict[int, Operation] = {}
    for token, operation in given:
        former = by_token.setdefault(token, operation)
        if former is not operation:
            findings.add(f"token {token} was given twice", former, operation)
    _never_fall(findings, given, "token", strictly=True)
    return findings.verdict(
        "fencing tokens",
        "No token is given twice, and what is granted after an answer has a higher one than that.",
    )


def check_terms(history: History) -> Verdict:
    """Terms of each group, in answers and in events."""
    findings = Findings(history)
    by_group: defaultdict[str, list[Given]] = defaultdict(list)
    leaders: dict[tuple[str, int], str] = {}

    def lead(group: str, term: int, leader: str, *operations: Operation) -> None:
        findings.checked += 1
        known = leaders.setdefault((group, term), leader) if leader else leader
        if known != leader:
            findings.add(f"{group!r}: both {known} and {leader} led in term {term}", *operations)

    for operation in history.of("elections"):
        if operation.outcome is Outcome.OK and operation.call in ("campaign", "get"):
            value = operation.value
            by_group[operation.key].append(Given(value["term"], operation))
            lead(operation.key, value["term"], value["leader"], operation)
    for seen in history.seen:
        if seen.topic == "leader.changed":
            payload = seen.payload
            lead(payload["group"], payload["term"], payload["leader"])
    for given in by_group.values():
        _never_fall(findings, given, "term", strictly=False)
    return findings.verdict(
        "terms", "A group has one leader per term, and no answer has a lower term than one before."
    )


def _grants(operation: Operation) -> bool:
    """Whether it was answered with a new token."""
    return (
        operation.call in ("acquire", "claim")
        and operation.outcome is Outcome.OK
        and operation.value is not None
    )


def _never_fall(findings: Findings, given: Iterable[Given], what: str, *, strictly: bool) -> None:
    """Numbers of calls, each against those of all calls that had ended before it began."""
    by_start = sorted(given, key=lambda g: g.operation.start_ns)
    by_end = iter(sorted(by_start, key=lambda g: g.operation.end_ns))
    ended = next(by_end, None)
    highest: Given | None = None
    for one in by_start:
        while ended is not None and ended.operation.end_ns < one.operation.start_ns:
            if highest is None or ended.number > highest.number:
                highest = ended
            ended = next(by_end, None)
        if highest is None:
            continue
        if one.number < highest.number or (strictly and one.number == highest.number):
            said = f"{what} {one.number} was told after {highest.number}"
            findings.add(said, highest.operation, one.operation)
