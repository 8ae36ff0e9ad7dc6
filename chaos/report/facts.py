"""All that the report of a run tells, as plain data. Times `_ns` are of CLOCK_MONOTONIC."""

from __future__ import annotations

import enum
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


class Conclusion(enum.StrEnum):
    """What a run has shown."""

    HELD = "HELD"
    VIOLATED = "VIOLATED"
    VOID = "VOID"
    """It proves nothing: too little was done."""


class Verdict(Protocol):
    """What one checker found: `chaos.checkers.Verdict` is one."""

    @property
    def name(self) -> str:
        """What was checked."""

    @property
    def checked(self) -> int:
        """How many things were looked at."""

    @property
    def violations(self) -> Sequence[str]:
        """What did not hold, in words, with the operations that show it."""

    @property
    def undecided(self) -> int:
        """How many of those things could not be judged."""

    @property
    def about(self) -> str:
        """What it proves, in a sentence."""


@dataclass
class FaultRecord:
    """One fault that was injected."""

    name: str
    """By which scenarios call it."""
    injected_ns: int
    leader_before: str = ""
    what: str = ""
    """What was done, in words."""
    targets: list[str] = field(default_factory=list)
    """Replicas it was done to; none where it was done to clients."""
    healed_ns: int = 0
    """0 if it never was."""
    leader_after: str = ""
    recovered_ms: float | None = None
    """From healing until all replicas were ready again; None if that was not seen."""
    first_ack_ms: float | None = None
    """From injection until the first acknowledgement of a write begun after it."""
    outage_ms: float | None = None
    """The longest time without any acknowledged write that touches injection to recovery."""
    failed_calls: int = 0
    """Calls that failed and were under way at some time from injection to recovery."""

    @property
    def kind(self) -> str:
        """What it is counted with: its name, and whom it hit."""
        match self.targets:
            case []:
                return self.name
            case [target]:
                return f"{self.name}, {'leader' if target == self.leader_before else 'follower'}"
            case several:
                return f"{self.name}, {len(several)} replicas"

    @property
    def recovered_ns(self) -> int | None:
        """When all was well again, if it was seen."""
        if not self.healed_ns or self.recovered_ms is None:
            return None
        return self.healed_ns + int(self.recovered_ms * 1e6)


@dataclass(frozen=True)
class ReplicaSample:
    """A replica at one time."""

    role: str
    """As `ReplicaRole` has it; empty while it is silent."""
    term: int
    commit_index: int
    ready: bool
    """Whether it serves linearizable calls."""
    memory_bytes: int = 0
    """Resident; 0 where it can't be known."""

    @property
    def state(self) -> str:
        """One word for it: down, unready, leader or follower."""
        if not self.role:
            return "down"
        if not self.ready:
            return "unready"
        return "leader" if self.role == "LEADER" else "follower"


@dataclass(frozen=True)
class Sample:
    """All replicas at one time."""

    at_ns: int
    leader: str
    """Empty while there is none."""
    replicas: Mapping[str, ReplicaSample]


@dataclass(frozen=True)
class Span:
    """A time from one moment to another."""

    start_ns: int
    end_ns: int

    @property
    def ms(self) -> float:
        """How long it is."""
        return (self.end_ns - self.start_ns) / 1e6


@dataclass
class Latency:
    """How long answered calls took, in ms; calls that wait for something are left out."""

    p50_ms: list[float | None]
    """By second of the run; None where nothing was answered."""
    p99_ms: list[float | None]
    all_p50_ms: float | None = None
    """Of the whole run."""
    all_p99_ms: float | None = None
    worst_ms: float | None = None


@dataclass
class Aggregate:
    """All operations of a run, counted. Lists have an item for each second since its start."""

    by_outcome: dict[str, list[int]]
    """By the names of `chaos.report.aggregate.OUTCOMES`."""
    by_workload: dict[str, list[int]]
    totals: dict[str, dict[str, int]]
    """By workload, then by outcome."""
    writes: Latency
    reads: Latency
    outages: list[Span]
    """Times without any acknowledged write that were longer than `outage_floor_ms`."""
    outage_floor_ms: float
    failed: int
    """Calls that the SDK failed: unavailable, unknown or broken."""

    @property
    def total(self) -> int:
        """How many operations there were."""
        return sum(sum(counts.values()) for counts in self.totals.values())

    def count(self, outcome: str) -> int:
        """How many had this outcome."""
        return sum(counts.get(outcome, 0) for counts in self.totals.values())


@dataclass(frozen=True)
class Machine:
    """Where it ran."""

    cores: int
    kernel: str
    python: str

    @classmethod
    def here(cls) -> Machine:
        """This one."""
        cores = len(os.sched_getaffinity(0))
        return cls(cores, f"{platform.system()} {platform.release()}", platform.python_version())


@dataclass
class RunFacts:
    """A run, as the report tells it."""

    scenario: str
    about: str
    """What the scenario does, in words."""
    backend: str
    replicas: Sequence[str]
    seed: int
    command: str
    """That repeats it."""
    version: str
    """Of the daemon."""
    commit: str
    """The source's; empty where there is none."""
    machine: Machine
    began_at: datetime
    start_ns: int
    end_ns: int
    operations: Aggregate
    faults: list[FaultRecord] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    verdicts: Sequence[Verdict] = ()
    problems: list[str] = field(default_factory=list)
    """What went wrong beside the checks: no recovery, calls that may not fail and did."""
    void: str = ""
    """Why it proves nothing, if it does not."""

    @property
    def duration_s(self) -> float:
        """How long it took."""
        return (self.end_ns - self.start_ns) / 1e9

    @property
    def conclusion(self) -> Conclusion:
        """What it has shown. A violation is one, however little was done."""
        if self.problems or any(verdict.violations for verdict in self.verdicts):
            return Conclusion.VIOLATED
        return Conclusion.VOID if self.void else Conclusion.HELD

    @property
    def reasons(self) -> list[str]:
        """Why the conclusion is not HELD; nothing if it is."""
        broken = [
            f"{verdict.name} does not hold: {len(verdict.violations)} told"
            for verdict in self.verdicts
            if verdict.violations
        ]
        return [*broken, *self.problems, *([self.void] if self.void else [])]


@dataclass(frozen=True)
class Figures:
    """Some measurements in ms; None where there were none."""

    median: float | None
    worst: float | None

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Figures:
        """Of those that were measured."""
        known = [value for value in values if value is not None]
        return cls(statistics.median(known), max(known)) if known else cls(None, None)


@dataclass(frozen=True)
class Recovery:
    """What the faults of one kind did."""

    kind: str
    count: int
    first_ack: Figures
    outage: Figures
    ready: Figures
    unrecovered: int
    failed_calls: int


def recoveries(faults: Sequence[FaultRecord]) -> list[Recovery]:
    """Put the faults of each kind together, by name of the kind."""
    kinds: dict[str, list[FaultRecord]] = {}
    for fault in faults:
        kinds.setdefault(fault.kind, []).append(fault)
    return [
        Recovery(
            kind=kind,
            count=len(alike),
            first_ack=Figures.of(fault.first_ack_ms for fault in alike),
            outage=Figures.of(fault.outage_ms for fault in alike),
            ready=Figures.of(fault.recovered_ms for fault in alike),
            unrecovered=sum(fault.recovered_ms is None for fault in alike),
            failed_calls=sum(fault.failed_calls for fault in alike),
        )
        for kind, alike in sorted(kinds.items())
    ]
