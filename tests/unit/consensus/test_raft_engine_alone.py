"""A cluster of one: no network, so every rule of the port can be looked at closely."""

from __future__ import annotations

import errno
from collections.abc import Callable

import lone_engine
import pytest
from lone_engine import Make, lead, propose, propose_and_step, raft_of, save

from agentkeeper.consensus import limits
from agentkeeper.consensus.entries import Log
from agentkeeper.consensus.port import Outcome, Role

make = lone_engine.make


def test_leads_within_the_first_step(make: Make) -> None:
    engine, listener = make()
    engine.step()
    assert listener.roles == [(Role.LEADER, 1, "a")]
    assert engine.status().leader_id == "a"


def test_stores_in_one_step_and_commits_in_the_next_and_tells_the_listener_first(
    make: Make,
) -> None:
    engine, listener = make()
    lead(engine)
    heard: list[int] = []
    engine.propose(b"x", 1.0, lambda outcome: heard.append(len(listener.entries)))
    engine.step()
    assert not heard
    assert engine.status().durable_index == 3
    engine.step()
    assert heard == [1]
    assert listener.entries == [(3, b"x")]


def test_a_read_is_answered_within_one_step(make: Make) -> None:
    engine, _ = make()
    lead(engine)
    results: list[int | None] = []
    engine.read_index(1.0, results.append)
    engine.step()
    assert results == [2]


def test_rejects_what_it_has_not_appended(make: Make) -> None:
    engine, listener = make()
    engine.step()
    expired = propose(engine, b"late", timeout_s=-1.0)
    huge = propose(engine, bytes(limits.MAX_PAYLOAD_BYTES + 1))
    many = [propose(engine, b"m") for _ in range(limits.MAX_OPEN_PROPOSALS + 1)]
    engine.step()
    while raft_of(engine).delivered_index < raft_of(engine).last_index:
        engine.step()
    assert expired == huge == [Outcome.REJECTED]
    assert many.count([Outcome.REJECTED]) >= 1
    assert len(listener.entries) == many.count([Outcome.COMMITTED])
    assert propose_and_step(engine) == [Outcome.COMMITTED]


def test_answers_after_the_end(make: Make) -> None:
    engine, _ = make()
    engine.stop()
    results: list[int | None] = []
    engine.read_index(1.0, results.append)
    assert propose(engine, b"x") == [Outcome.REJECTED]
    assert results == [None]
    assert not engine.send("b", b"x")


def test_a_raising_listener_stops_the_engine(make: Make) -> None:
    engine, listener = make()
    listener.raise_at = b"bad"
    engine.step()
    first, bad, after = (propose(engine, payload) for payload in (b"ok", b"bad", b"after"))
    engine.step()
    engine.step()
    assert listener.failure is not None
    assert "broken" in listener.failure
    assert first == [Outcome.COMMITTED]
    assert bad == after == [Outcome.UNKNOWN]
    assert propose(engine, b"more") == [Outcome.REJECTED]


def test_a_raising_callback_harms_nothing(make: Make) -> None:
    engine, listener = make()
    engine.step()

    def raising(outcome: Outcome) -> None:
        raise ValueError(outcome)

    engine.propose(b"x", 1.0, raising)
    engine.step()
    assert propose_and_step(engine) == [Outcome.COMMITTED]
    assert [payload for _, payload in listener.entries] == [b"x", b"again"]


def test_a_proposal_whose_entry_cannot_be_written_ends(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, listener = make()
    engine.step()

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Log, "add", fail)
    outcomes = propose(engine, b"x")
    engine.step()
    assert outcomes == [Outcome.UNKNOWN]
    assert listener.failure is not None


def test_a_callback_that_always_asks_again_does_not_hold_up_the_engine(make: Make) -> None:
    engine, _ = make()
    engine.step()
    rounds = []

    def again(index: int | None) -> None:
        rounds.append(index)
        engine.read_index(-1.0, again)  # answered None while it is taken in

    engine.read_index(-1.0, again)
    engine.step()
    engine.step()
    assert rounds == [None, None]


def test_a_large_log_asks_for_a_snapshot_and_refuses_at_last(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SNAPSHOT_LOG_BYTES", 1000)
    monkeypatch.setattr(limits, "MAX_LOG_BYTES", 3000)
    engine, listener = make()
    engine.step()
    assert propose_and_step(engine) == [Outcome.COMMITTED]
    assert listener.wanted == 0
    large = [propose_and_step(engine, bytes(800)) for _ in range(8)]
    assert listener.wanted == 1
    assert large[0] == [Outcome.COMMITTED]
    assert large[-1] == [Outcome.REJECTED]
    save(engine, engine.status().delivered_index)
    assert propose_and_step(engine) == [Outcome.COMMITTED]


def test_one_snapshot_is_written_at_a_time(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, listener = make(snapshot_entries=2)
    jobs: list[Callable[[], None]] = []
    raft_of(engine).snapshots._run = jobs.append
    for _ in range(5):
        propose_and_step(engine)
    assert listener.wanted == 1
    save(engine, 4)
    save(engine, 5)
    monkeypatch.setattr("agentkeeper.consensus.engine._SNAPSHOT_RETRY_S", 0.0)
    engine.step()
    assert listener.wanted == 1
    (job,) = jobs
    job()
    engine.step()
    assert raft_of(engine).first_index == 4


def test_waking_an_ended_engine_writes_to_nobody(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = make()
    raft = raft_of(engine)
    engine.stop()
    written: list[int] = []
    monkeypatch.setattr("os.write", lambda descriptor, data: written.append(descriptor))
    raft.wake()
    assert not written
