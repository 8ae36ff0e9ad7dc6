"""The demo's verdicts: each accepts what is right and names what is wrong."""

import json
from datetime import UTC, datetime
from typing import ClassVar

import pytest
from click.testing import CliRunner
from rich.console import Console

from agentkeeper.cli.demo import actors, checks, demo, run
from agentkeeper.cli.demo.checks import Ack, Hold
from agentkeeper.cli.demo.stage import DemoFailed, Stage, wait_for
from agentkeeper.types import Lease, WatchEvent

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def hold(begin_s, end_s, token, key="k", holder="a"):
    return Hold(key, holder, token, begin_s, end_s)


def event(topic, token, key="k", holder="a"):
    return WatchEvent(f"lease.{topic}", token, NOW, Lease(key, holder, token, NOW, NOW))


def test_lost_writes():
    assert checks.lost_writes(["a", "b"], ["b", "a", "c"]) == []
    assert checks.lost_writes(["a", "b"], ["a"]) == ["acknowledged and gone: b"]


def test_repeated_writes():
    assert checks.repeated_writes(["a", "b"]) == []
    assert checks.repeated_writes(["a", "b", "a"]) == ["written 2 times: a"]


@pytest.mark.parametrize(
    "holds",
    [
        [],
        [hold(0, 1, 1), hold(1, 2, 2)],
        [hold(1, 2, 2), hold(0, 1, 1)],
        [hold(0, 5, 1), hold(1, 2, 2, key="other")],
    ],
)
def test_holds_that_are_right(holds):
    assert checks.overlapping_holds(holds) == []


@pytest.mark.parametrize(
    "holds",
    [
        [hold(0, 2, 1), hold(1, 3, 2, holder="b")],
        [hold(0, 9, 1), hold(1, 2, 2), hold(3, 4, 3)],
        [hold(0, 1, 2), hold(1, 2, 1)],
        [hold(0, 1, 1), hold(1, 2, 1)],
        [hold(0, 3, 1), hold(0, 3, 2, holder="b")],
    ],
)
def test_holds_that_are_wrong(holds):
    assert checks.overlapping_holds(holds)


def test_a_long_hold_overlaps_all_that_begin_in_it():
    problems = checks.overlapping_holds([hold(0, 9, 1), hold(1, 2, 2), hold(3, 4, 3)])
    assert len([p for p in problems if "at the same time" in p]) == 2


@pytest.mark.parametrize(
    "events",
    [
        [event("acquired", 1), event("released", 1), event("acquired", 2, holder="b")],
        [event("acquired", 1), event("expired", 1), event("acquired", 2, holder="b")],
        [event("acquired", 1), event("acquired", 2)],
        [event("acquired", 1), event("renewed", 1), event("acquired", 2, key="other")],
    ],
)
def test_grants_that_are_right(events):
    assert checks.double_holders(events) == []


@pytest.mark.parametrize(
    "events",
    [
        [event("acquired", 1), event("acquired", 2, holder="b")],
        [event("acquired", 1), event("renewed", 1), event("acquired", 2, holder="b")],
        [event("acquired", 2), event("released", 2), event("acquired", 1, holder="b")],
        [event("acquired", 2), event("acquired", 1, key="other")],
    ],
)
def test_grants_that_are_wrong(events):
    assert checks.double_holders(events)


def test_a_hold_needs_its_grant():
    events = [event("acquired", 1)]
    assert checks.unrecorded_holds([hold(0, 1, 1)], events) == []
    assert checks.unrecorded_holds([hold(0, 1, 2)], events)
    assert checks.unrecorded_holds([hold(0, 1, 1, holder="b")], events)
    assert checks.unrecorded_holds([hold(0, 1, 1, key="other")], events)


def test_sequence_gaps():
    assert checks.sequence_gaps([]) == []
    assert checks.sequence_gaps([4, 5, 6]) == []
    assert checks.sequence_gaps([4, 6]) == ["event 6 came after event 4"]
    assert checks.sequence_gaps([4, 4])
    assert checks.sequence_gaps([5, 4])


def test_claimers():
    assert checks.claimers({"a": ["t"], "b": ["u"]}, "t") == ["a"]
    assert checks.claimers({"a": ["t"], "b": ["t"]}, "t") == ["a", "b"]
    assert checks.claimers({"a": ["t", "t"]}, "t") == ["a", "a"]


def test_failover_counts_only_writes_that_began_after_the_kill():
    acks = [Ack("before", 0.0, 1.0), Ack("across", 0.9, 1.1), Ack("x", 1.2, 3.5), Ack("y", 2, 3)]
    assert checks.failover_s(acks, 1.0, 1.0) == pytest.approx(2.0)
    assert checks.failover_s(acks, 1.0, 1.5) == pytest.approx(2.0)
    assert checks.failover_s(acks, 0.8, 0.9) == pytest.approx(0.3)
    assert checks.failover_s(acks, 1.0, 2.5) is None


def test_every_writer_must_end_well():
    assert checks.bad_exits({"a": 0, "b": 0}) == []
    assert checks.bad_exits({"a": 0, "b": 1, "c": None}) == [
        "b ended with exit code 1",
        "c ended with exit code None",
    ]


class BrokenClient:
    """Lets nobody register."""

    def register(self, *_, **__):
        raise RuntimeError("no room")


def test_a_writer_thread_that_breaks_is_told_and_ends_the_process_badly(capsys):
    with pytest.raises(SystemExit) as caught:
        actors.writer(BrokenClient(), "w")
    assert caught.value.code
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [report["what"] for report in told] == ["failed"] * actors.WRITER_THREADS
    assert "RuntimeError: no room" in told[0]["error"]


def test_longest_silence():
    assert checks.longest_silence_s([]) == 0.0
    acks = [Ack("a", 0, 1.0), Ack("b", 0, 4.0), Ack("c", 0, 2.0)]
    assert checks.longest_silence_s(acks) == pytest.approx(2.0)


class NoCluster:
    """Stands in for the cluster, its client and its watch."""

    nodes: ClassVar[dict] = {}

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __getattr__(self, name):
        return lambda *_, **__: NoCluster()


def shout(stage):
    raise DemoFailed("the theatre burns")


@pytest.mark.parametrize(
    ("play", "exit_code", "said"),
    [
        (lambda stage: stage.check("all is well", []), 0, "✓ all is well"),
        (lambda stage: stage.check("all is well", ["it is not"]), 1, "NOT SO: all is well"),
        (shout, 1, "the theatre burns"),
    ],
)
def test_the_exit_code_tells_whether_everything_holds(monkeypatch, play, exit_code, said):
    monkeypatch.setattr(run, "LocalCluster", NoCluster)
    monkeypatch.setattr(run, "play", play)
    monkeypatch.setattr(run.signal, "signal", lambda *_: None)
    answer = CliRunner().invoke(demo)
    assert answer.exit_code == exit_code
    assert said in answer.output
    assert ("Everything holds" in answer.output) == (exit_code == 0)


def test_one_broken_check_is_not_made_good_by_a_later_one():
    stage = Stage(Console(quiet=True), NoCluster())
    assert not stage.check("first", ["problem"] * 9)
    assert stage.check("second", [])
    assert stage.failed_checks == 1


def test_waiting_in_vain_ends_the_story():
    with pytest.raises(DemoFailed, match="for the rain"):
        wait_for("the rain", lambda: None, timeout_s=0.05)
    assert wait_for("it", lambda: 7) == 7
