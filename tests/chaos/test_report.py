"""What the report counts, what it says, and that its page is safe to open."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from chaos.history import FOREVER_NS, History, Operation, Outcome
from chaos.report.aggregate import ABANDONED, IDLE, LOST, aggregate, measure
from chaos.report.facts import (
    Conclusion,
    FaultRecord,
    Machine,
    ReplicaSample,
    RunFacts,
    Sample,
    recoveries,
)
from chaos.report.page import render
from chaos.report.terminal import print_summary

START_NS = 7_000_000_000
MS = 1_000_000
HOSTILE = "</pre><script>alert('x')</script><img src=//evil.example/x onerror=alert(1)>\"'"


@dataclass(frozen=True)
class Found:
    name: str
    checked: int
    violations: list[str]
    undecided: int = 0
    about: str = ""


def operation(start_ms: int, took_ms: int | None, call: str = "renew", **rest: Any) -> Operation:
    """A call; one that took None has no known end."""
    start_ns = START_NS + start_ms * MS
    given = {"client": "c", "actor": "a", "workload": "leases", "key": "k", "args": {}} | rest
    end_ns = FOREVER_NS if took_ms is None else start_ns + took_ms * MS
    given.setdefault("outcome", Outcome.UNKNOWN if took_ms is None else Outcome.OK)
    return Operation(call=call, start_ns=start_ns, end_ns=end_ns, **given)


def fault(at_ms: int, healed_ms: int, recovered_ms: float | None, **rest: Any) -> FaultRecord:
    given = {"name": "kill", "what": "kill b", "targets": ["b"], "leader_before": "b"} | rest
    at_ns, healed_ns = (START_NS + ms * MS for ms in (at_ms, healed_ms))
    return FaultRecord(injected_ns=at_ns, healed_ns=healed_ns, recovered_ms=recovered_ms, **given)


def facts_of(history: History, **rest: Any) -> RunFacts:
    replica = ReplicaSample("LEADER", 3, 100, ready=True, memory_bytes=2**20)
    silent = ReplicaSample("", 0, 0, ready=False)
    given: dict[str, Any] = {
        "scenario": "kills",
        "about": "Replicas are killed.",
        "backend": "processes",
        "replicas": ["a", "b"],
        "seed": 4711,
        "command": "python -m chaos run --seed 4711",
        "version": "9.8.7",
        "commit": "abc123",
        "machine": Machine(2, "Linux 6", "3.11"),
        "began_at": datetime(2026, 1, 2, tzinfo=UTC),
        "start_ns": START_NS,
        "end_ns": START_NS + 5000 * MS,
        "operations": aggregate(history, START_NS),
        "samples": [Sample(START_NS, "a", {"a": replica, "b": silent})],
        "verdicts": [Found("tokens rise", 12345, [], about="No token is given twice.")],
    }
    return RunFacts(**(given | rest))


def test_operations_are_counted_in_the_second_in_which_they_ended():
    history = History(
        [
            operation(900, 200),
            operation(950, 10, "get", outcome=Outcome.REFUSED, error="NotFound"),
            operation(1000, None, error="OutcomeUnknown"),
            operation(1100, None),
            operation(1200, 100, "claim", workload="tasks", outcome=Outcome.UNAVAILABLE, error="x"),
            operation(1300, None, "claim", workload="tasks", error="OutcomeUnknown"),
            operation(1400, None, "renew", error="LeaseLost"),
        ]
    )
    counted = aggregate(history, START_NS)
    assert counted.by_outcome["ok"] == [0, 1]
    assert counted.by_outcome["refused"] == [1, 0]
    assert counted.by_outcome["unknown"] == [0, 1]
    assert [counted.count(outcome) for outcome in (ABANDONED, IDLE, LOST)] == [1, 2, 1]
    assert counted.by_workload == {"leases": [1, 4], "tasks": [0, 2]}
    assert (counted.total, counted.failed) == (7, 1)
    assert (counted.writes.p99_ms, counted.reads.p50_ms) == ([None, 200], [10, None])


def test_quantiles_are_by_nearest_rank_and_without_calls_that_wait():
    calls = [operation(0, took) for took in range(1, 101)]
    calls += [operation(0, 900, "acquire", args={"wait": 5}), operation(0, 900, "claim")]
    writes = aggregate(History(calls), START_NS).writes
    assert (writes.all_p50_ms, writes.all_p99_ms, writes.worst_ms) == (50, 99, 100)


def test_an_outage_lasts_from_one_acknowledged_write_to_the_next():
    history = History(
        [operation(0, 10), operation(100, 5, "get"), operation(200, 700), operation(1400, 1)]
    )
    counted = aggregate(history, START_NS, outage_floor_ms=500)
    assert [outage.ms for outage in counted.outages] == [890, 501]


def test_a_cluster_that_never_comes_back_is_an_outage_to_the_end():
    history = History([operation(0, 10), operation(3000, 10, "get", outcome=Outcome.UNAVAILABLE)])
    assert [outage.ms for outage in aggregate(history, START_NS).outages] == [3000]


def test_the_first_write_is_one_that_was_begun_after_the_fault():
    killed = fault(100, 200, 1000)
    calls = [operation(90, 20), operation(120, 900), operation(130, 700), operation(140, 5, "get")]
    measure([killed], History(calls))
    assert (killed.first_ack_ms, killed.outage_ms) == (730, 720)


def test_failed_calls_belong_to_the_faults_that_they_touch():
    first, second = fault(0, 100, 100), fault(1000, 1100, 100)
    unknown = operation(150, None, error="OutcomeUnknown")
    measure([first, second], History([unknown, operation(500, 5), operation(1300, 5)]))
    assert (first.failed_calls, second.failed_calls) == (1, 0)


def test_recovery_is_told_by_kind():
    faults = [fault(0, 1, float(ms)) for ms in (10, 30, 20)] + [fault(0, 1, None, targets=["c"])]
    follower, leader = recoveries(faults)
    assert (leader.kind, leader.count) == ("kill, leader", 3)
    assert (leader.ready.median, leader.ready.worst) == (20, 30)
    assert (follower.kind, follower.unrecovered) == ("kill, follower", 1)


@pytest.mark.parametrize(
    ("rest", "conclusion"),
    [
        ({}, Conclusion.HELD),
        ({"void": "too little"}, Conclusion.VOID),
        ({"problems": ["b never came back"]}, Conclusion.VIOLATED),
        ({"void": "too little", "verdicts": [Found("x", 1, ["no"])]}, Conclusion.VIOLATED),
    ],
)
def test_the_conclusion(rest: dict[str, Any], conclusion: Conclusion, tmp_path: Path):
    facts = facts_of(History([operation(0, 10)]), **rest)
    assert facts.conclusion is conclusion
    assert bool(facts.reasons) == (conclusion is not Conclusion.HELD)
    console = Console(file=io.StringIO(), width=200)
    print_summary(facts, console, tmp_path / "report.html")
    said = console.file.getvalue().splitlines()[-1]  # type: ignore[attr-defined]
    assert said.startswith(conclusion.value)
    assert said.endswith("report.html")


def test_the_page_tells_all():
    killed = fault(100, 900, 300)
    page = render(facts_of(History([operation(0, 10), operation(2000, 10)]), faults=[killed]))
    for words in ("HELD", "4711", "12,345", "No token is given twice", "abc123", "kill, leader"):
        assert words in page
    assert 'id="fault-1"' in page
    assert "no acknowledged write for 2.00 s" in page


def test_the_page_needs_nothing_and_obeys_nobody():
    history = History([operation(0, 10, workload=HOSTILE)])
    found = Found(HOSTILE, 1, [HOSTILE], about=HOSTILE)
    hostile = fault(0, 1, 1, name=HOSTILE, what=HOSTILE, leader_before=HOSTILE)
    page = render(
        facts_of(
            history,
            verdicts=[found],
            faults=[hostile],
            replicas=[HOSTILE],
            problems=[HOSTILE],
            **dict.fromkeys(("scenario", "about", "command", "version", "commit"), HOSTILE),
        )
    )
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"<(script|img|link|iframe|object)\b", page)
    assert not re.search(r"\s(src|on\w+|style)=[\"']", page)
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', page))
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page.replace("&#39;", "'")


def test_a_run_without_anything_has_a_page():
    facts = facts_of(History([]), samples=[], verdicts=[], void="nothing was done")
    assert "nothing was done" in render(facts)


def test_the_scale_of_latencies_is_labelled_rightly():
    page = render(facts_of(History([operation(0, 20), operation(1000, 2500)])))
    marks = re.findall(r">([\d.]+ m?s)</text>", page)
    assert marks == ["10 ms", "100 ms", "1 s", "10 s"]


def test_a_long_run_has_a_small_page():
    calls = [operation(ms, 10, actor=f"a{ms}") for ms in range(0, 3_600_000, 500)]
    faults = [fault(s * 1000, s * 1000 + 900, 50) for s in range(0, 3600, 12)]
    facts = facts_of(History(calls), faults=faults, end_ns=START_NS + 3_600_000 * MS)
    assert len(render(facts)) < 1_000_000
