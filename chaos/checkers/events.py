"""Events: complete, in order and unique per watcher, the same to all, one for every write."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from chaos.checkers.verdict import Findings, Verdict
from chaos.history import FOREVER_NS, History, Operation, Outcome, Seen

GAP = "gap"
Name = tuple[str, ...]
"""What an event is about: its topic, and what tells it from others of that topic."""

_Payload = dict[str, Any]
_ONCE: dict[str, Callable[[_Payload], Name]] = {
    "lease.acquired": lambda p: (p["key"], str(p["token"])),
    "task.created": lambda p: (p["id"],),
    "task.claimed": lambda p: (p["id"], str(p["token"])),
    "task.completed": lambda p: (p["id"],),
    "agent.registered": lambda p: (p["agent"],),
    "agent.died": lambda p: (p["agent"],),
    "lease.released": lambda p: (p["key"], str(p["token"])),
}
"""Topics whose events happen once for each name."""
_OFTEN: dict[str, Callable[[_Payload], Name]] = {
    "policy.set": lambda p: (p["id"], p["subject"], str(p["effect"]).upper()),
    "policy.deleted": lambda p: (p["id"], p["subject"]),
}


def check_events(history: History) -> list[Verdict]:
    """All checks of watches."""
    findings = Findings(history)
    events = _agreed(findings, history)
    _told_in_order(findings, events)
    watches = findings.verdict(
        "watches",
        "Each watcher is given events in order, each once and without untold gaps; all the same.",
    )
    return [watches, _complete(history, events)]


def _agreed(findings: Findings, history: History) -> dict[int, Seen]:
    """The events of all watchers by sequence number; gaps that were told are `undecided`."""
    events: dict[int, Seen] = {}
    last: dict[tuple[str, str], int] = {}
    for seen in history.seen:
        watcher = (seen.client, seen.watcher)
        findings.checked += 1
        known = last.get(watcher)
        if seen.topic == GAP:
            findings.undecided += 1
            after, oldest = seen.payload["after"], seen.payload["oldest"]
            if known is not None and after != known:
                findings.add(f"{seen.watcher}: told of a gap after {after}, had got to {known}")
            if oldest <= after:
                findings.add(f"{seen.watcher}: the cluster began to count anew at {oldest}")
            last[watcher] = oldest - 1
            continue
        if known is not None and seen.sequence != known + 1:
            said = "again" if seen.sequence <= known else "after a gap that was not told"
            findings.add(f"{seen.watcher}: was given {seen.sequence} {said}, after {known}")
        last[watcher] = seen.sequence
        former = events.setdefault(seen.sequence, seen)
        if (former.topic, former.payload) != (seen.topic, seen.payload):
            said = f"{former.topic} {former.payload} to {former.watcher}"
            other = f"{seen.topic} {seen.payload} to {seen.watcher}"
            findings.add(f"event {seen.sequence} was {said}, and {other}")
    return events


def _told_in_order(findings: Findings, events: dict[int, Seen]) -> None:
    """Tokens rise from event to event, and terms of a group by one from leader to leader."""
    token = hole = last = 0
    terms: dict[str, tuple[int, int]] = {}
    for sequence in sorted(events):
        seen = events[sequence]
        payload = seen.payload
        if sequence != last + 1:
            hole = sequence
        last = sequence
        if seen.topic in ("lease.acquired", "task.claimed"):
            if payload["token"] <= token:
                said = f"event {sequence}, {seen.topic}, has token {payload['token']}"
                findings.add(f"{said} after {token}")
            token = max(token, payload["token"])
        elif seen.topic == "leader.changed":
            group, term = payload["group"], payload["term"]
            known, at = terms.get(group, (term, -1))
            terms[group] = (term, sequence)
            rise = 1 if payload["leader"] else 0
            # Of an earlier leader that falls into a hole, nothing is known.
            if (at >= hole and term != known + rise) or term < known:
                findings.add(f"event {sequence}: {group!r} in term {term} after {known}")


def _complete(history: History, events: dict[int, Seen]) -> Verdict:
    findings = Findings(history)
    seen_often: Counter[Name] = Counter()
    for seen in events.values():
        named = _name(seen)
        if named is not None:
            seen_often[named] += 1
            if seen.topic in _ONCE and seen_often[named] == 2:
                findings.add(f"{' '.join(named)} was told under two sequence numbers")
    holes = bool(events) and max(events) - min(events) + 1 > len(events)
    from_ns, until_ns = _covered(history, events)
    written: defaultdict[Name, list[Operation]] = defaultdict(list)
    for operation in history.operations:
        name = event_of(operation)
        if name is not None:
            written[name].append(operation)
    for name, operations in written.items():
        sure = [o for o in operations if o.start_ns > from_ns and o.end_ns < until_ns]
        findings.checked += len(sure)
        missing = len(sure) - seen_often[name]
        if missing <= 0:
            pass
        elif holes:
            findings.undecided += missing
        elif len(sure) > 1 and name[0] in _ONCE:
            pass  # an idempotent creation: the number of its events is looked at above
        else:
            findings.add(f"{missing} of {len(sure)} events missing: {' '.join(name)}", sure[-1])
    return findings.verdict(
        "events of writes",
        "Every acknowledged write has its event where there was a watcher; no event is told under "
        "two numbers.",
    )


def event_of(operation: Operation) -> Name | None:
    """The event that an acknowledged write must have; None if it was none."""
    if operation.outcome is not Outcome.OK:
        return None
    args, value, key = operation.args, operation.value, operation.key
    match operation.call:
        case "acquire" if value is not None:
            return ("lease.acquired", key, str(value["token"]))
        case "release":
            return ("lease.released", key, str(args["token"]))
        case "create":
            return ("task.created", value["id"])
        case "claim":
            return ("task.claimed", value["id"], str(value["token"]))
        case "complete":
            return ("task.completed", key)
        case "register":
            return ("agent.registered", value["agent"])
        case "deregister":
            return ("agent.died", key)
        case "set":
            return ("policy.set", str(args["id"]), key, str(args["effect"]).upper())
        case "delete":
            return ("policy.deleted", str(args["id"]), key)
    return None


def _name(seen: Seen) -> Name | None:
    name = _ONCE.get(seen.topic) or _OFTEN.get(seen.topic)
    return None if name is None else (seen.topic, *name(seen.payload))


def _covered(history: History, events: dict[int, Seen]) -> tuple[int, int]:
    """Calls that began after the first time and ended before the second have their event in here.

    The first: when the first event was seen, as it had happened by then. The second: when the
    latest began of the calls whose event was seen, as that is the later one of the two.
    """
    if not events:
        return FOREVER_NS, 0
    first = min(events)
    from_ns = min(
        seen.at_ns for seen in history.seen if seen.sequence == first and seen.topic != GAP
    )
    names = {_name(seen) for seen in events.values() if seen.topic in _ONCE}
    starts = (
        operation.start_ns
        for operation in history.operations
        if (name := event_of(operation)) is not None and name in names
    )
    return from_ns, max(starts, default=0)
