"""What an overload did to the cluster, and to the others who work on it.

It is measured by a tenth of the same, the load that the cluster can take, which the scenario has to
try as well. Of ten times that, what is too much must be refused, and soon; the memory of replicas
must stay bounded; the calls of others must not take much longer; and all must end with the load.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from chaos.checkers import Verdict
from chaos.faults.overload import LOG
from chaos.history import History, Operation, Outcome
from chaos.report.aggregate import waits
from chaos.report.facts import FaultRecord, Sample

NAME = "overload"
FILE = "overload.json"
TIMES = 10
SLOWER = 3.0
"""By how much the p99 of others may rise, from a tenth of the load to all of it."""
MEMORY_BYTES = 512 * 1024 * 1024
"""By how much the memory of a replica may rise."""
RECOVERY_MS = 5000.0
"""When the p99 of others must be back, and all replicas ready, after the load's end."""
SECOND_NS = 1_000_000_000
SETTLING_NS = 5 * SECOND_NS
"""After an overload: not counted as quiet yet."""
REFUSED = "RESOURCE_EXHAUSTED"
LATE = "DEADLINE_EXCEEDED"
FLOODS = {"flood", "shared_flood"}


@dataclass
class Effect:
    """What one overload did."""

    what: str
    counts: dict[str, int] = field(default_factory=dict)
    """How many there were of each kind: calls at a time, watches, connections."""
    codes: dict[str, int] = field(default_factory=dict)
    """Answers to its calls."""
    longest_ms: float = 0.0
    """That one of them took."""
    quiet_p99_ms: float = math.nan
    tenth_p99_ms: float | None = None
    """None if a tenth of it was not tried: then this is a load that others are measured by."""
    during_p99_ms: float = math.nan
    """Of the calls of others."""
    memory_bytes: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Of each replica: before, at most, and last."""
    back_ms: float | None = None
    """From its end until a second in which the p99 of others was back."""
    ready_ms: float | None = None
    """From its end until all replicas were seen to be ready."""

    @property
    def slower(self) -> float:
        """By which factor the p99 of others rose from a tenth of it."""
        return self.during_p99_ms / self.tenth_p99_ms if self.tenth_p99_ms else math.nan

    def __str__(self) -> str:
        mib = 1024 * 1024
        rises = [f"{a // mib} → {b // mib} → {c // mib}" for a, b, c in self.memory_bytes.values()]
        answers = ", ".join(f"{count:,} {code}" for code, count in sorted(self.codes.items()))
        tenth = f"{self.tenth_p99_ms:.0f} → " if self.tenth_p99_ms else ""
        slower = f" ({self.slower:.1f}x)" if self.tenth_p99_ms else ""
        back = "never" if self.back_ms is None else f"{self.back_ms / 1000:.1f} s"
        ready = "never" if self.ready_ms is None else f"{self.ready_ms / 1000:.1f} s"
        return (
            f"{self.what}: answers {answers or 'none'}, the longest after"
            f" {self.longest_ms / 1000:.1f} s; p99 of others {self.quiet_p99_ms:.0f} →"
            f" {tenth}{self.during_p99_ms:.0f} ms{slower}, back {back} after the end, all"
            f" ready {ready}; memory {', '.join(rises)} MiB"
        )


def effects(
    records: Iterable[FaultRecord], history: History, samples: Sequence[Sample], folder: Path
) -> list[Effect]:
    """What each overload of a run did. `folder` is where its processes wrote their reports."""
    overloads = [record for record in records if record.name == NAME]
    answered = [o for o in history.operations if _counts(o)]
    quiet = _p99_ms(o for o in answered if not any(_touches(o, each) for each in overloads))
    found = [_effect(record, answered, quiet, samples, folder) for record in overloads]
    for one in found:
        tenths = [o.during_p99_ms for o in found if _times(o.counts) == one.counts]
        one.tenth_p99_ms = tenths[0] if tenths else None
    for record, one in zip(overloads, found, strict=True):
        one.back_ms = _back_ms(
            answered, _span(record, folder)[1], one.tenth_p99_ms or SLOWER * quiet
        )
    return found


def _times(counts: dict[str, int]) -> dict[str, int]:
    return {kind: TIMES * count for kind, count in counts.items()}


def check(found: Sequence[Effect]) -> list[Verdict]:
    """Whether overloads did no more than they may; nothing if there were none."""
    if not found:
        return []
    violations: list[str] = []
    for one in found:
        told = [
            ("a call was not answered in its time", LATE in one.codes),
            (
                "nothing was refused",
                one.tenth_p99_ms and FLOODS & one.counts.keys() and not one.codes.get(REFUSED),
            ),
            (
                f"p99 of others rose by more than {SLOWER:g}",
                one.tenth_p99_ms and not one.slower <= SLOWER,
            ),
            (
                f"memory rose by more than {MEMORY_BYTES >> 20} MiB",
                any(most - before > MEMORY_BYTES for before, most, _ in one.memory_bytes.values()),
            ),
            (
                f"not over after {RECOVERY_MS / 1000:g} s",
                not all(ms is not None and ms <= RECOVERY_MS for ms in (one.back_ms, one.ready_ms)),
            ),
        ]
        violations += [f"{words}: {one}" for words, broken in told if broken]
    about = "What is too much is refused, takes bounded memory, slows others little, and passes."
    return [Verdict(NAME, len(found), violations, about=about)]


def tell(found: Sequence[Effect], console: Console, folder: Path) -> None:
    """Print what overloads did, and write it down as JSON; nothing if there were none."""
    if found:
        (folder / FILE).write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    for one in found:
        console.print(f"[bold]overload[/bold] {one}")


def _effect(
    record: FaultRecord,
    answered: Sequence[Operation],
    quiet_p99_ms: float,
    samples: Sequence[Sample],
    folder: Path,
) -> Effect:
    effect = Effect(record.what, quiet_p99_ms=quiet_p99_ms)
    codes: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for kind, count, report in _reports(folder, record.injected_ns):
        counts[kind] += count
        codes.update(report.get("codes", {}))
        effect.longest_ms = max(effect.longest_ms, report.get("longest_ms", 0.0))
    effect.codes, effect.counts = dict(codes), dict(counts)
    begun_ns, ended_ns = _span(record, folder)
    effect.during_p99_ms = _p99_ms(o for o in answered if begun_ns <= o.start_ns <= ended_ns)
    effect.ready_ms = _ready_ms(samples, ended_ns)
    effect.memory_bytes = _memory(samples, record.injected_ns, ended_ns + SETTLING_NS)
    return effect


def _span(record: FaultRecord, folder: Path) -> tuple[int, int]:
    """When all of its processes had begun, and when the last one ended."""
    reports = [report for _, _, report in _reports(folder, record.injected_ns)]
    begun_ns = max((report["begun_ns"] for report in reports), default=record.injected_ns)
    ended_ns = max((report["ended_ns"] for report in reports), default=record.healed_ns)
    return begun_ns, ended_ns


def _counts(operation: Operation) -> bool:
    return operation.outcome in (Outcome.OK, Outcome.REFUSED) and not waits(operation)


def _touches(operation: Operation, record: FaultRecord) -> bool:
    until_ns = (record.recovered_ns or record.healed_ns) + SETTLING_NS
    return operation.end_ns >= record.injected_ns and operation.start_ns <= until_ns


def _p99_ms(operations: Iterable[Operation]) -> float:
    took_ns = sorted(o.end_ns - o.start_ns for o in operations)
    return took_ns[math.ceil(0.99 * len(took_ns)) - 1] / 1e6 if took_ns else math.nan


def _back_ms(answered: Sequence[Operation], ended_ns: int, p99_ms: float) -> float | None:
    """When the first second was over in which calls were as fast as that; by their begin."""
    last_ns = max((o.start_ns for o in answered), default=0)
    for start_ns in range(ended_ns, last_ns, SECOND_NS):
        second = [o for o in answered if start_ns <= o.start_ns < start_ns + SECOND_NS]
        if second and _p99_ms(second) <= p99_ms:
            return (start_ns + SECOND_NS - ended_ns) / 1e6
    return None


def _ready_ms(samples: Sequence[Sample], ended_ns: int) -> float | None:
    for sample in samples:
        if sample.at_ns >= ended_ns and all(one.ready for one in sample.replicas.values()):
            return (sample.at_ns - ended_ns) / 1e6
    return None


def _memory(
    samples: Sequence[Sample], from_ns: int, until_ns: int
) -> dict[str, tuple[int, int, int]]:
    """Of each replica: the last before, the most within, and the last within."""
    found = {}
    within = [sample for sample in samples if from_ns <= sample.at_ns <= until_ns]
    for name in within[0].replicas if within else ():
        before = [s.replicas[name].memory_bytes for s in samples if s.at_ns < from_ns]
        sizes = [s.replicas[name].memory_bytes for s in within]
        found[name] = (before[-1] if before else sizes[0], max(sizes), sizes[-1])
    return found


def _reports(folder: Path, began_ns: int) -> Iterable[tuple[str, int, dict[str, Any]]]:
    """The kind of each process of an overload, its count, and what it has written at its end."""
    pattern = LOG.format(began_ns=began_ns, number="*", kind="*", count="*")
    for path in sorted(folder.glob(pattern)):
        kind, count = path.stem.split("-")[-2:]
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith('{"begun_ns"'):
                yield kind, int(count), json.loads(line)
