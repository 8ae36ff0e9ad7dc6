"""What the demo checks, as pure functions over records. Each returns what is wrong, if anything.

Times are seconds of the machine's monotonic clock, which all processes on it share.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agentkeeper.types import Lease, WatchEvent


@dataclass(frozen=True, slots=True)
class Ack:
    """A write that its writer saw acknowledged."""

    tag: str
    begun_s: float
    acked_s: float


@dataclass(frozen=True, slots=True)
class Hold:
    """A time in which a holder, by its own knowledge, held a lease."""

    key: str
    holder: str
    token: int
    begin_s: float
    """When the answer to its acquiring had arrived."""
    end_s: float
    """When it was about to release."""


def lost_writes(acked: Iterable[str], found: Iterable[str]) -> list[str]:
    """Return the acknowledged writes that are not among those found."""
    present = set(found)
    return [f"acknowledged and gone: {tag}" for tag in acked if tag not in present]


def repeated_writes(found: Iterable[str]) -> list[str]:
    """Return the writes that took effect more than once."""
    counts = Counter(found)
    return [f"written {count} times: {tag}" for tag, count in counts.items() if count > 1]


def overlapping_holds(holds: Iterable[Hold]) -> list[str]:
    """Return the pairs of holds of one lease that overlap in time, or whose tokens don't rise."""
    by_key: dict[str, list[Hold]] = defaultdict(list)
    for hold in holds:
        by_key[hold.key].append(hold)
    problems = []
    for key, held in by_key.items():
        held.sort(key=lambda hold: (hold.begin_s, hold.token))
        latest = held[0]
        for hold in held[1:]:
            if hold.begin_s < latest.end_s:
                problems.append(
                    f"{key}: {hold.holder} (token {hold.token}) and {latest.holder}"
                    f" (token {latest.token}) at the same time"
                )
            if hold.token <= latest.token:
                problems.append(f"{key}: token {hold.token} came after token {latest.token}")
            if hold.end_s > latest.end_s:
                latest = hold
    return problems


def double_holders(events: Iterable[WatchEvent]) -> list[str]:
    """Return where the stream of events shows a lease granted while somebody else held it."""
    held: dict[str, Lease] = {}
    highest = 0
    problems = []
    for event in events:
        lease = event.payload
        if not isinstance(lease, Lease):
            continue
        holder = held.get(lease.task_id)
        if event.topic == "lease.acquired":
            if holder is not None and holder.holder_agent_id != lease.holder_agent_id:
                problems.append(
                    f"{lease.task_id}: granted to {lease.holder_agent_id} (token {lease.token})"
                    f" while {holder.holder_agent_id} (token {holder.token}) held it"
                )
            if lease.token <= highest:
                problems.append(f"{lease.task_id}: token {lease.token} after token {highest}")
            highest = max(highest, lease.token)
            held[lease.task_id] = lease
        elif event.topic in {"lease.released", "lease.expired"}:
            held.pop(lease.task_id, None)
    return problems


def unrecorded_holds(holds: Iterable[Hold], events: Iterable[WatchEvent]) -> list[str]:
    """Return the holds of which no event tells: nobody may hold what was never granted."""
    granted = {
        (lease.task_id, lease.token): lease.holder_agent_id
        for event in events
        if event.topic == "lease.acquired" and isinstance(lease := event.payload, Lease)
    }
    return [
        f"{hold.key}: no grant of token {hold.token} to {hold.holder}"
        for hold in holds
        if granted.get((hold.key, hold.token)) != hold.holder
    ]


def sequence_gaps(sequences: Sequence[int]) -> list[str]:
    """Return where a watch of all topics missed or repeated events."""
    return [
        f"event {after} came after event {before}"
        for before, after in itertools.pairwise(sequences)
        if after != before + 1
    ]


def claimers(claims: Mapping[str, Sequence[str]], task_id: str) -> list[str]:
    """Return who claimed the task, once for every time, from the claims of each worker."""
    return [worker for worker, claimed in claims.items() for one in claimed if one == task_id]


def bad_exits(codes: Mapping[str, int | None]) -> list[str]:
    """Return which actors, by name, did not end with exit code 0."""
    return [f"{name} ended with exit code {code}" for name, code in codes.items() if code != 0]


def failover_s(acks: Iterable[Ack], killed_s: float, dead_s: float) -> float | None:
    """Return the time from the kill to the first acknowledged write of those begun after death.

    The killed process may still answer between the kill and its end, `dead_s`.
    """
    after = [ack.acked_s for ack in acks if ack.begun_s >= dead_s]
    return min(after) - killed_s if after else None


def longest_silence_s(acks: Iterable[Ack]) -> float:
    """Return the longest time in which no write at all was acknowledged."""
    times = sorted(ack.acked_s for ack in acks)
    return max((b - a for a, b in itertools.pairwise(times)), default=0.0)
