"""Where everything lies on the page's timeline, in the units of its SVG."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from chaos.report.aggregate import FAILED
from chaos.report.facts import FaultRecord, RunFacts, Span
from chaos.report.words import clock, span

LEFT, RIGHT = 92.0, 980.0
LANE, STRIP, CHART, GAP = 13.0, 15.0, 104.0, 26.0
MAX_COLUMNS = 450
"""Longer runs are drawn with several seconds to a column, so that the page stays small."""
TICKS_S = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
MAX_TICKS = 11
LEAST_WIDTH = 2.5
GROUPS = {
    "network": {"isolate", "one-way", "ring", "slow", "lossy"},
    "disk": {"disk-full", "power-cut", "damage", "wipe-while-isolated"},
    "clock": {"clock"},
    "client": {"kill-clients", "pause-clients", "herd", "idle-watchers"},
}


@dataclass(frozen=True)
class Box:
    """A rectangle with what is told about it."""

    x: float
    width: float
    y: float = 0.0
    height: float = 0.0
    kind: str = ""
    title: str = ""
    number: int = 0
    """Of the fault it shows, from 1."""


@dataclass(frozen=True)
class Mark:
    """A tick of an axis."""

    at: float
    text: str


@dataclass
class Chart:
    """One plot under the others."""

    top: float
    title: str
    marks: list[Mark] = field(default_factory=list)
    paths: dict[str, str] = field(default_factory=dict)
    """By the class that draws them."""

    @property
    def bottom(self) -> float:
        """Where its axis is."""
        return self.top + CHART


@dataclass
class Timeline:
    """All that is drawn."""

    height: float
    axis: float
    """Where the times are written."""
    ticks: list[Mark]
    lanes: list[Mark]
    strips: list[Mark]
    faults: list[Box]
    recoveries: list[Box]
    outages: list[Box]
    states: list[Box]
    columns: list[Box]
    charts: list[Chart]


class _Scale:
    """From seconds of the run to places."""

    def __init__(self, facts: RunFacts) -> None:
        self._start_ns = facts.start_ns
        self.seconds = max(facts.duration_s, 1.0)

    def at(self, second: float) -> float:
        share = min(max(second / self.seconds, 0.0), 1.0)
        return round(LEFT + share * (RIGHT - LEFT), 1)

    def second(self, ns: int) -> float:
        return (ns - self._start_ns) / 1e9

    def box(self, of: Span, **rest: object) -> Box:
        x, end = self.at(self.second(of.start_ns)), self.at(self.second(of.end_ns))
        width = max(round(end - x, 1), LEAST_WIDTH)
        return Box(min(x, RIGHT - width), width, **rest)  # type: ignore[arg-type]


def group(fault: str) -> str:
    """What a fault is done to, which its colour shows."""
    return next((name for name, members in GROUPS.items() if fault in members), "process")


def draw(facts: RunFacts) -> Timeline:
    """Place everything."""
    scale = _Scale(facts)
    names = list(dict.fromkeys(fault.name for fault in facts.faults))
    lanes = [Mark(22 + i * LANE, name) for i, name in enumerate(names)]
    faults, recoveries = _faults(facts, scale, {lane.text: lane.at for lane in lanes})
    top = 22 + len(lanes) * LANE
    strips = [Mark(top + i * (STRIP + 3), name) for i, name in enumerate(facts.replicas)]
    top += len(strips) * (STRIP + 3) + GAP
    # What is left of the last second would look like a collapse.
    whole = min(len(facts.operations.by_outcome["ok"]), max(1, int(facts.duration_s)))
    buckets = list(_buckets(whole))
    charts = [
        _throughput(facts, scale, buckets, top),
        _latency(facts, scale, buckets, top + CHART + GAP + 8),
    ]
    bottom = charts[-1].bottom
    outages = [
        scale.box(
            outage,
            title=f"no acknowledged write for {span(outage.ms)} "
            f"from {clock(scale.second(outage.start_ns))}",
        )
        for outage in facts.operations.outages
    ]
    return Timeline(
        height=bottom + 24,
        axis=bottom + 16,
        ticks=_ticks(scale),
        lanes=lanes,
        strips=strips,
        faults=faults,
        recoveries=recoveries,
        outages=outages,
        states=list(_states(facts, scale, {strip.text: strip.at for strip in strips})),
        columns=_columns(facts, scale, buckets),
        charts=charts,
    )


def _ticks(scale: _Scale) -> list[Mark]:
    step = next((s for s in TICKS_S if scale.seconds / s <= MAX_TICKS), TICKS_S[-1])
    return [Mark(scale.at(s), clock(s)) for s in range(0, int(scale.seconds) + 1, step)]


def _faults(facts: RunFacts, scale: _Scale, lanes: dict[str, float]) -> tuple[list[Box], list[Box]]:
    """Return the faults, and after each how long the cluster took to be whole again."""
    boxes, recoveries = [], []
    for number, fault in enumerate(facts.faults, 1):
        healed_ns = fault.healed_ns or facts.end_ns
        place = {"y": lanes[fault.name] - 9, "height": LANE - 3, "number": number}
        at = clock(scale.second(fault.injected_ns))
        kind, title = group(fault.name), f"{number}. at {at}: {fault.what}{_cost(fault)}"
        lasted = Span(fault.injected_ns, healed_ns)
        boxes.append(scale.box(lasted, kind=kind, title=title, **place))
        until_ns = fault.recovered_ns or facts.end_ns
        recoveries.append(scale.box(Span(healed_ns, until_ns), kind=kind, title=title, **place))
    return boxes, recoveries


def _cost(fault: FaultRecord) -> str:
    return f"; first write after {span(fault.first_ack_ms)}, longest pause {span(fault.outage_ms)}"


def _states(facts: RunFacts, scale: _Scale, strips: dict[str, float]) -> Iterator[Box]:
    """Join the samples of each replica that show it in one state and term."""
    for name, y in strips.items():
        runs: list[tuple[str, int, int]] = []  # state, term, since
        for sample in facts.samples:
            replica = sample.replicas.get(name)
            state = replica.state if replica else "down"
            term = replica.term if replica and state == "leader" else 0
            if not runs or runs[-1][:2] != (state, term):
                runs.append((state, term, sample.at_ns))
        runs.append(("", 0, facts.end_ns))
        for (state, term, since), (_, _, end) in itertools.pairwise(runs):
            began = clock(scale.second(since))
            title = f"{name}: {state}{f' in term {term}' if term else ''} from {began}"
            yield scale.box(Span(since, end), y=y, height=STRIP, kind=state, title=title)


def _buckets(seconds: int) -> Iterator[range]:
    """Join seconds to columns, so that there are not too many."""
    width = math.ceil(seconds / MAX_COLUMNS)
    for first in range(0, seconds, width):
        yield range(first, min(first + width, seconds))


def _rate(counts: Sequence[int], bucket: range) -> float:
    return sum(counts[i] for i in bucket) / len(bucket)


def _rates(facts: RunFacts, bucket: range) -> tuple[float, float]:
    """Answers, refusals too, and failures in a second."""
    by_outcome = facts.operations.by_outcome
    answered = sum(_rate(by_outcome[name], bucket) for name in ("ok", "refused"))
    return answered, sum(_rate(by_outcome[name], bucket) for name in FAILED)


def _worst(values: Sequence[float | None], bucket: range) -> float | None:
    return max((value for i in bucket if (value := values[i]) is not None), default=None)


def _throughput(facts: RunFacts, scale: _Scale, buckets: list[range], top: float) -> Chart:
    chart = Chart(top, "calls answered a second")
    rates = [_rates(facts, bucket) for bucket in buckets]
    most = _round_up(max((max(rate) for rate in rates), default=1.0))

    def y(rate: float) -> float:
        return chart.bottom - rate / most * CHART

    line = _line([(_middle(b, scale), y(answered)) for b, (answered, _) in _pairs(buckets, rates)])
    first, last = _middle(buckets[0], scale), _middle(buckets[-1], scale)
    chart.paths["area"] = f"{line}L{last} {chart.bottom:g}L{first} {chart.bottom:g}Z"
    chart.paths["line"] = line
    chart.paths["failures"] = "".join(
        f"M{_middle(bucket, scale)} {chart.bottom:g}V{min(y(failed), chart.bottom - 3):.1f}"
        for bucket, (_, failed) in _pairs(buckets, rates)
        if failed
    )
    chart.marks = [Mark(y(most * share), f"{most * share:,.0f}") for share in (0, 0.5, 1)]
    return chart


def _latency(facts: RunFacts, scale: _Scale, buckets: list[range], top: float) -> Chart:
    """On a scale of powers of ten, as it spans many."""
    chart = Chart(top, "99 of 100 calls took less than")
    series = {"line": facts.operations.writes.p99_ms, "line other": facts.operations.reads.p99_ms}
    known = [value for values in series.values() for value in values if value is not None]
    low = math.floor(math.log10(max(min(known, default=1.0), 0.1)))
    high = max(math.ceil(math.log10(max(known, default=1.0))), low + 1)

    def y(ms: float) -> float:
        return chart.bottom - (math.log10(max(ms, 10**low)) - low) / (high - low) * CHART

    for name, values in series.items():
        points = [(_middle(bucket, scale), _worst(values, bucket)) for bucket in buckets]
        chart.paths[name] = _line([(x, None if ms is None else y(ms)) for x, ms in points])
    chart.marks = [Mark(y(10**n), _power(n)) for n in range(low, high + 1)]
    return chart


def _power(n: int) -> str:
    """A power of ten of milliseconds, as an axis has it."""
    return f"{10**n:g} ms" if n < 3 else f"{10 ** (n - 3):,} s"


def _pairs(
    buckets: list[range], rates: list[tuple[float, float]]
) -> Iterator[tuple[range, tuple[float, float]]]:
    return zip(buckets, rates, strict=True)


def _columns(facts: RunFacts, scale: _Scale, buckets: list[range]) -> list[Box]:
    """What the pointer is told at each time."""
    operations = facts.operations
    columns = []
    for bucket in buckets:
        answered, failed = _rates(facts, bucket)
        words = [f"at {clock(bucket.start)}: {answered:,.0f} answered"]
        words += [f"{failed:,.1f} failed"] if failed else []
        for name, latency in (("writes", operations.writes), ("reads", operations.reads)):
            words.append(f"{name} p99 {span(_worst(latency.p99_ms, bucket))}")
        x, end = scale.at(bucket.start), scale.at(bucket.stop)
        if end > x:
            columns.append(Box(x, round(end - x, 1), title=", ".join(words)))
    return columns


def _middle(bucket: range, scale: _Scale) -> float:
    return scale.at((bucket.start + bucket.stop) / 2)


def _line(points: Sequence[tuple[float, float | None]]) -> str:
    """A path with holes where there is no value."""
    words, pen_down = [], False
    for x, y in points:
        if y is not None:
            words.append(f"{'L' if pen_down else 'M'}{x:g} {y:.1f}")
        pen_down = y is not None
    return "".join(words)


def _round_up(value: float) -> float:
    """The next number that looks well on an axis."""
    base = 10 ** math.floor(math.log10(max(value, 1.0)))
    fits: Callable[[float], bool] = lambda factor: factor * base >= value  # noqa: E731
    return float(base * next(filter(fits, (1, 2, 3, 4, 5, 6, 8, 10))))
