"""How fast this replica goes just now, without reading its metrics as text."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from agentkeeper.consensus.distribution import Counted

SAMPLE_S: Final = 1.0
SPAN_SAMPLES: Final = 5
"""Figures are of so many samples: enough calls for a percentile, and still of this moment."""
_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """Rates and percentiles of the last `span_s` seconds, and how things stand.

    Percentiles are None where nothing was counted: commits only at the leader, syncs only with a
    data folder.
    """

    span_s: float
    calls_per_s: float
    """Calls that this replica answered, those that waited and failures included."""
    failures_per_s: float
    """Those of them that ended as an error that is not the caller's: see `FAULTS`."""
    commands_per_s: float
    """Commands applied, of the whole cluster."""
    events_per_s: float
    call_p50_ms: float | None
    call_p99_ms: float | None
    """Of calls that do not wait for a lease or a task."""
    commit_p50_ms: float | None
    commit_p99_ms: float | None
    sync_p99_ms: float | None
    loop_lag_max_ms: float
    """The longest that work on the event loop came too late."""
    uncommitted_entries: int
    """Entries in this replica's log that are not known to be committed."""
    unapplied_entries: int
    """Committed entries that this replica has not applied yet."""


class Sample(NamedTuple):
    """What had been counted at one moment. `at_s` is on a clock that only rises."""

    at_s: float
    calls: int
    failures: int
    commands: int
    events: int
    call_s: Counted
    commit_s: Counted
    sync_s: Counted
    loop_lag_max_s: float
    """The longest since the sample before."""


class LiveView:
    """Keeps the last few samples; `sample` is to be called every `SAMPLE_S`."""

    def __init__(self, take: Callable[[], Sample]) -> None:
        self._take = take
        self._samples: deque[Sample] = deque([take()], maxlen=SPAN_SAMPLES + 1)

    def sample(self) -> None:
        """Look once more."""
        self._samples.append(self._take())

    def figures(self, uncommitted_entries: int, unapplied_entries: int) -> LiveFigures:
        """What the samples show, the newest against the oldest."""
        first, last = self._samples[0], self._samples[-1]
        span_s = last.at_s - first.at_s
        per_s = 1 / span_s if span_s > 0 else 0.0
        call_s = last.call_s.since(first.call_s)
        commit_s = last.commit_s.since(first.commit_s)
        return LiveFigures(
            span_s=span_s,
            calls_per_s=(last.calls - first.calls) * per_s,
            failures_per_s=(last.failures - first.failures) * per_s,
            commands_per_s=(last.commands - first.commands) * per_s,
            events_per_s=(last.events - first.events) * per_s,
            call_p50_ms=_ms(call_s.quantile(0.5)),
            call_p99_ms=_ms(call_s.quantile(0.99)),
            commit_p50_ms=_ms(commit_s.quantile(0.5)),
            commit_p99_ms=_ms(commit_s.quantile(0.99)),
            sync_p99_ms=_ms(last.sync_s.since(first.sync_s).quantile(0.99)),
            loop_lag_max_ms=_MS * max(sample.loop_lag_max_s for sample in self._samples),
            uncommitted_entries=uncommitted_entries,
            unapplied_entries=unapplied_entries,
        )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else _MS * seconds
