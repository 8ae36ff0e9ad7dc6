"""Counts a history: by second, outcome and workload; latencies; times without service."""

from __future__ import annotations

import bisect
import itertools
import math
from collections import defaultdict
from collections.abc import Sequence

from chaos.history import FOREVER_NS, History, Operation, Outcome
from chaos.report.facts import Aggregate, FaultRecord, Latency, Span

SECOND_NS = 1_000_000_000
OUTAGE_FLOOR_MS = 500.0

WRITES = frozenset(
    {
        *("acquire", "renew", "release"),
        *("campaign", "resign"),
        *("create", "claim", "complete", "fail", "extend"),
        *("register", "deregister"),
        *("set", "delete"),
    }
)
IDLE = "idle"
"""A claim that ended because no task came in its time, which is shorter than many an outage."""
LOST = "lost"
"""What was held ended during the call by the client's own clock, which did not wait any longer."""
ABANDONED = "abandoned"
"""Never answered, because its client was killed or closed."""
OUTCOMES = (*(outcome.value for outcome in Outcome), IDLE, LOST, ABANDONED)
FAILED = frozenset({Outcome.UNAVAILABLE.value, Outcome.UNKNOWN.value, Outcome.BROKEN.value})


def outcome_of(operation: Operation) -> str:
    """One of OUTCOMES: a call that its own client gave up is not one that the SDK failed."""
    if operation.call == "claim" and operation.outcome in (Outcome.UNAVAILABLE, Outcome.UNKNOWN):
        return IDLE if operation.error not in ("", "ClientClosed") else ABANDONED
    if operation.outcome is Outcome.UNKNOWN and operation.error.endswith("Lost"):
        return LOST
    if operation.outcome is Outcome.UNKNOWN and operation.error in ("", "ClientClosed"):
        return ABANDONED
    return operation.outcome.value


def waits(operation: Operation) -> bool:
    """Whether it may take long because it waits for others, so that its latency says nothing."""
    return operation.call == "claim" or bool(operation.args.get("wait"))


def aggregate(
    history: History, start_ns: int, *, outage_floor_ms: float = OUTAGE_FLOOR_MS
) -> Aggregate:
    """Count all operations by the second in which they ended; where that is unknown, began."""
    operations = history.operations
    last = max(_last_ns(operations), start_ns)
    length = (last - start_ns) // SECOND_NS + 1
    by_outcome = {outcome: [0] * length for outcome in OUTCOMES}
    by_workload: dict[str, list[int]] = defaultdict(lambda: [0] * length)
    totals: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(OUTCOMES, 0))
    writes, reads = _Latencies(length), _Latencies(length)
    for operation in operations:
        outcome, end_ns = outcome_of(operation), operation.end_ns
        at_ns = operation.start_ns if end_ns == FOREVER_NS else end_ns
        second = max(0, (at_ns - start_ns) // SECOND_NS)
        by_outcome[outcome][second] += 1
        by_workload[operation.workload][second] += 1
        totals[operation.workload][outcome] += 1
        if operation.outcome in (Outcome.OK, Outcome.REFUSED) and not waits(operation):
            latencies = writes if operation.call in WRITES else reads
            latencies.add(second, end_ns - operation.start_ns)
    moments, floor_ns = _moments(operations), outage_floor_ms * 1e6
    return Aggregate(
        by_outcome=by_outcome,
        by_workload=dict(sorted(by_workload.items())),
        totals=dict(sorted(totals.items())),
        writes=writes.sum_up(),
        reads=reads.sum_up(),
        outages=[Span(a, b) for a, b in itertools.pairwise(moments) if b - a > floor_ns],
        outage_floor_ms=outage_floor_ms,
        failed=sum(sum(by_outcome[outcome]) for outcome in FAILED),
    )


def measure(faults: Sequence[FaultRecord], history: History) -> None:
    """Set what the history tells of each fault: its first write, its outage, the failed calls."""
    operations = history.operations
    starts = [operation.start_ns for operation in operations]
    moments = _moments(operations)
    failures = _failures(operations)
    last_ns = _last_ns(operations)
    for fault in faults:
        until_ns = fault.recovered_ns or last_ns
        fault.first_ack_ms = _first_ack_ms(operations, starts, fault.injected_ns)
        fault.outage_ms = _longest_ms(moments, fault.injected_ns, until_ns)
        fault.failed_calls = sum(
            failure.end_ns >= fault.injected_ns and failure.start_ns <= until_ns
            for failure in failures
        )


def _first_ack_ms(
    operations: Sequence[Operation], starts: Sequence[int], after_ns: int
) -> float | None:
    first_ns = FOREVER_NS
    for i in range(bisect.bisect_left(starts, after_ns), len(operations)):
        if starts[i] >= first_ns:
            break
        if _acknowledged_write(operations[i]):
            first_ns = min(first_ns, operations[i].end_ns)
    return None if first_ns == FOREVER_NS else (first_ns - after_ns) / 1e6


def _moments(operations: Sequence[Operation]) -> list[int]:
    """When writes were acknowledged, in order, between the first call and the last."""
    if not operations:
        return []
    ends = sorted(o.end_ns for o in operations if _acknowledged_write(o))
    return [operations[0].start_ns, *ends, _last_ns(operations)]


def _longest_ms(moments: Sequence[int], start_ns: int, end_ns: int) -> float | None:
    """The longest time between two moments that lies in part between start and end."""
    longest_ns = 0
    for i in range(max(1, bisect.bisect_right(moments, start_ns)), len(moments)):
        if moments[i - 1] >= end_ns:
            break
        longest_ns = max(longest_ns, moments[i] - moments[i - 1])
    return longest_ns / 1e6 if longest_ns else None


def _failures(operations: Sequence[Operation]) -> list[Span]:
    """When failed calls were under way.

    The history keeps no end of those whose outcome is unknown, but an actor does one call at a
    time: they had ended when it began the next.
    """
    failures: list[Span] = []
    ended: dict[tuple[str, str], Operation] = {}
    for operation in operations:
        actor = (operation.client, operation.actor)
        if former := ended.pop(actor, None):
            failures.append(Span(former.start_ns, operation.start_ns))
        if outcome_of(operation) not in FAILED:
            continue
        if operation.end_ns == FOREVER_NS:
            ended[actor] = operation
        else:
            failures.append(Span(operation.start_ns, operation.end_ns))
    last_ns = _last_ns(operations)
    return failures + [Span(former.start_ns, last_ns) for former in ended.values()]


def _acknowledged_write(operation: Operation) -> bool:
    return operation.outcome is Outcome.OK and operation.call in WRITES


def _last_ns(operations: Sequence[Operation]) -> int:
    """The last moment that anything is known to have happened."""
    return max((o.start_ns if o.end_ns == FOREVER_NS else o.end_ns for o in operations), default=0)


class _Latencies:
    def __init__(self, length: int) -> None:
        self._seconds: list[list[int]] = [[] for _ in range(length)]

    def add(self, second: int, ns: int) -> None:
        self._seconds[second].append(ns)

    def sum_up(self) -> Latency:
        everything: list[int] = []
        for second in self._seconds:
            second.sort()
            everything += second
        everything.sort()
        return Latency(
            p50_ms=[_quantile_ms(second, 0.5) for second in self._seconds],
            p99_ms=[_quantile_ms(second, 0.99) for second in self._seconds],
            all_p50_ms=_quantile_ms(everything, 0.5),
            all_p99_ms=_quantile_ms(everything, 0.99),
            worst_ms=_quantile_ms(everything, 1.0),
        )


def _quantile_ms(ordered: Sequence[int], share: float) -> float | None:
    """The least that is not less than this share of them (the nearest rank)."""
    if not ordered:
        return None
    return ordered[max(1, math.ceil(share * len(ordered))) - 1] / 1e6
