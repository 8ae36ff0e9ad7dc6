"""What `top`, `check perf` and `cluster status` make of what they are told."""

import asyncio
import dataclasses
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from agentkeeper.cli import perf
from agentkeeper.cli.cluster.report import status_rows
from agentkeeper.cli.top_view import RATE_WINDOW_S, Traffic, frame
from agentkeeper.types import (
    Policy,
    PolicyEffect,
    ReplicaRole,
    ReplicaStatus,
    ReplicaView,
    ReplicaVitals,
    Summary,
    WatchEvent,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)
HUGE = Summary(*[10**9 for _ in dataclasses.fields(Summary)])


def status(node_id, role=ReplicaRole.FOLLOWER, replicas=()):
    return ReplicaStatus(
        endpoint=f"127.0.0.1:707{node_id}",
        node_id=node_id,
        role=role,
        term=3,
        commit_index=1_000_000,
        applied_index=999_990,
        last_log_index=1_000_000,
        leader_node_id="1",
        leader_endpoint="127.0.0.1:7071",
        version="0.2.0",
        not_ready_reason="",
        digest="",
        replicas=list(replicas),
    )


def event(number):
    policy = Policy(f"p{number}", "s" * 60, "a" * 60, "r" * 60, PolicyEffect.DENY)
    return WatchEvent("policy.set", number, NOW, policy)


@pytest.mark.parametrize("replicas", [1, 3, 5])
@pytest.mark.parametrize("summary", [None, HUGE])
def test_a_frame_fits_a_small_terminal(replicas, summary):
    statuses = {f"127.0.0.1:707{n}": status(str(n)) for n in range(1, replicas + 1)}
    statuses["127.0.0.1:7071"] = status("1", ReplicaRole.LEADER)
    traffic = Traffic(lambda: 0.0)
    for number in range(100):
        traffic.note(event(number))
    console = Console(width=80, height=24, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(frame(statuses, summary, traffic, 24, "out of reach"))
    lines = captured.get().splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert "1 leads" in lines[0]
    assert any("p99" in line for line in lines), "the newest event"


def test_a_frame_without_anybody():
    console = Console(width=80)
    with console.capture() as captured:
        console.print(frame({"h:1": None}, None, Traffic(lambda: 0.0), 24, "nobody answers"))
    assert "no leader" in captured.get()
    assert "nobody answers" in captured.get()


def test_rates_are_of_late_and_busiest_first():
    now = [0.0]
    traffic = Traffic(lambda: now[0])
    for number in range(5):
        traffic.note(dataclasses.replace(event(number), topic="old"))
    now[0] = RATE_WINDOW_S + 1
    for number in range(20):
        traffic.note(
            dataclasses.replace(event(number), topic="task.created" if number % 4 else "x")
        )
    assert traffic.rates() == {"task.created": 15 / RATE_WINDOW_S, "x": 5 / RATE_WINDOW_S}
    assert [e.sequence for e in traffic.recent(3)] == [17, 18, 19]
    assert traffic.recent(0) == []


def test_replicas_that_were_not_asked_are_told_of_by_those_that_heard_of_them_last():
    def vitals(age_ms, applied):
        return ReplicaVitals(ReplicaRole.FOLLOWER, 3, 990_000, applied, "", "0.2.0", age_ms)

    old = ReplicaView("3", "h:3", True, None, vitals(900, 1))
    new = ReplicaView("3", "h:3", True, None, vitals(100, 999_000))
    gone = ReplicaView("4", "", False, None, None)
    rows = status_rows(
        {
            "h:1": status("1", ReplicaRole.LEADER, [old, gone]),
            "h:2": status("2", replicas=[new, gone]),
        }
    )
    assert [row["replica"] for row in rows] == ["1", "2", "3", "4"]
    assert (rows[2]["heard_ms"], rows[2]["lag"]) == (100, 1_000)
    assert rows[3] == {"endpoint": None, "reachable": False, "replica": "4"}


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1.0))
def test_quantiles(values, share):
    found = perf.quantile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) < share * len(values) + 1e-6


def test_a_load_that_falls_short_says_of_what():
    load = perf.LOADS["s"]
    good = perf.Result(load, seconds=10.0, took_ms=[5.0] * 950)
    assert good.passed
    assert "fewer" in dataclasses.replace(good, took_ms=[5.0] * 899).problems[0]
    assert "longer" in dataclasses.replace(good, took_ms=[5.0] * 940 + [900.0] * 10).problems[0]
    assert "the last: x" in dataclasses.replace(good, failures=1, last_failure="x").problems[0]
    assert perf.quantile([], 0.5) == 0.0


def test_a_caller_acquires_and_releases_by_turns():
    calls = []

    class Lease:
        async def release(self):
            calls.append("release")

    class Client:
        async def acquire_lease(self, *_args):
            calls.append("acquire")
            if len(calls) > 9:
                result.failures += 1
                caller.end_s = 0.0
            return Lease()

    result = perf.Result(perf.LOADS["l"])
    caller = perf._Caller(Client(), "a", "k", result, float("inf"))
    asyncio.run(caller.run(0.0, 0.0))
    assert calls == ["acquire", "release"] * 5 + ["acquire"]
    assert len(result.took_ms) == len(calls)
