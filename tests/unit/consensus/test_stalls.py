"""A replica that makes no progress says so, asks for no more work, and does none in vain."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import Any

import one_replica
import pytest
from one_replica import Clock, Replica
from simulated_disk import SimulatedFile

from agentkeeper.consensus import engine, limits
from agentkeeper.consensus.port import Outcome, Role

clock = one_replica.clock
make = one_replica.make
replica = one_replica.replica

Make = Callable[..., Replica]


# --- one alone ------------------------------------------------------------------------------------
def waits(replica: Replica, wait_s: float) -> list[float]:
    """Give how long a step waits for the network."""
    waited: list[float] = []
    replica.raft._poller.poll = waited.append
    replica.engine.step(wait_s)
    return waited


def test_one_alone_whose_disk_is_full_does_not_spin(clock: Clock, make: Make) -> None:
    replica = make(ids="a")
    replica.step()
    replica.step()
    replica.disk.capacity_bytes = replica.disk.used_bytes
    replica.propose()
    replica.step()
    assert replica.raft.full
    assert waits(replica, 0.025) == [0.025]


def test_one_alone_does_not_wait_to_commit_what_it_has_stored(clock: Clock, make: Make) -> None:
    replica = make(ids="a")
    replica.step()
    assert replica.raft.commit_index < replica.raft.durable_index
    assert waits(replica, 0.025) == [0.0]
    assert waits(replica, 0.025) == [0.025]
    replica.propose()
    assert waits(replica, 0.025) == [0.0]  # stores it,
    assert waits(replica, 0.025) == [0.0]  # commits it,
    assert waits(replica, 0.025) == [0.025]


# --- snapshots ------------------------------------------------------------------------------------
def test_a_snapshot_that_was_of_no_use_is_asked_for_again_after_a_while(
    clock: Clock, make: Make
) -> None:
    replica = make(ids="a", snapshot_entries=3)
    asked_s: list[float] = []

    def give_one_of_no_use() -> None:
        asked_s.append(clock.time_s)
        replica.engine.save_snapshot(0, [b"state"])

    replica.listener.snapshot_wanted = give_one_of_no_use
    for _ in range(6):
        replica.propose()
        replica.step()
        replica.step()
    assert asked_s == [clock.time_s]
    clock.time_s += engine._SNAPSHOT_RETRY_S + 0.1
    replica.step()
    replica.step()
    assert asked_s == [clock.time_s - engine._SNAPSHOT_RETRY_S - 0.1, clock.time_s]


def test_a_deposed_leader_closes_the_snapshot_it_was_sending(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica.cut("b")
    replica.raft.stand_now()
    replica.step()
    replica.vote("c")
    replica.propose()
    replica.step()
    replica.answer("c", 4)
    replica.step()
    replica.engine.save_snapshot(3, [b"state"])
    replica.step()
    replica.step()
    assert replica.raft.first_index == 3
    closed: list[str] = []
    monkeypatch.setattr(SimulatedFile, "close", lambda file: closed.append(file._name))
    replica.link("b")
    replica.introduce("b")
    replica.answer("b", 2, success=False, reset=True)
    assert [to for to, _ in replica.sent("install_snapshot")] == ["b"]
    assert not closed
    replica.answer("c", 4, term=9)
    assert replica.raft.role is Role.FOLLOWER
    assert closed == ["snapshot"]


# --- followers that store nothing -----------------------------------------------------------------
STORE_NOTHING = 2
"""Index of the next entry that a follower lacks which has stored the first one only."""


def pass_time(leader: Replica, clock: Clock, span_s: float, next_index: int) -> None:
    """Let the followers answer every heartbeat, and vouch for what is below `next_index`."""
    until_s = clock.time_s + span_s
    while clock.time_s < until_s:
        clock.time_s += 0.09
        for peer in leader.peers:
            leader.answer(peer, next_index)
        leader.step()
    assert leader.raft.role is Role.LEADER


def test_a_leader_whose_followers_store_nothing_takes_no_more(
    replica: Replica, clock: Clock
) -> None:
    replica.lead()
    pass_time(replica, clock, limits.COMMIT_STALL_S * 0.9, STORE_NOTHING)
    taken = replica.propose()
    replica.step()
    assert (taken, replica.engine.status().trouble) == ([], "")

    pass_time(replica, clock, limits.COMMIT_STALL_S * 0.2, STORE_NOTHING)
    refused = replica.propose()
    replica.step()
    assert (taken, refused) == ([], [Outcome.REJECTED])
    assert "too few other replicas store" in replica.engine.status().trouble

    replica.answer("b", replica.raft.last_index + 1)
    replica.step()
    assert taken == [Outcome.COMMITTED]
    after = replica.propose()
    replica.step()
    assert after == []
    assert replica.engine.status().trouble == ""
    replica.answer("c", replica.raft.last_index + 1)
    replica.step()
    assert after == [Outcome.COMMITTED]


def test_a_leader_that_commits_slowly_or_has_nothing_to_commit_goes_on(
    replica: Replica, clock: Clock
) -> None:
    replica.lead()
    for _ in range(5):
        replica.propose()
        replica.step()
    for stored in range(3, replica.raft.last_index + 1):
        pass_time(replica, clock, limits.COMMIT_STALL_S * 0.7, stored)
        assert replica.raft.takes_proposals
    pass_time(replica, clock, limits.COMMIT_STALL_S * 2, replica.raft.last_index + 1)
    assert replica.raft.takes_proposals
    assert replica.engine.status().trouble == ""


def test_a_log_that_has_become_too_long_is_told(
    clock: Clock, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = make(ids="a")
    monkeypatch.setattr(limits, "MAX_LOG_BYTES", 3000)

    def propose() -> list[Outcome]:
        outcomes = replica.propose(bytes(800))
        replica.step()
        replica.step()
        return outcomes

    replica.step()
    assert [propose() for _ in range(4)] == [[Outcome.COMMITTED]] * 4
    assert "log has become too long" in replica.engine.status().trouble
    assert propose() == [Outcome.REJECTED]
    replica.engine.save_snapshot(replica.raft.delivered_index, [b"state"])
    replica.step()
    replica.step()
    assert replica.engine.status().trouble == ""
    assert propose() == [Outcome.COMMITTED]


# --- what must not be done in vain ----------------------------------------------------------------
@pytest.mark.parametrize("next_index", [0, 1, 2])
def test_a_rejection_of_what_matched_is_not_answered(replica: Replica, next_index: int) -> None:
    replica.lead()
    replica.step()
    replica.answer("b", 3)
    before = len(replica.wire.sent)
    replica.answer("b", next_index, success=False, reset=True)
    assert len(replica.wire.sent) == before
    replica.answer("b", 3, success=False, reset=True)
    assert len(replica.wire.sent) == before + 1, "what comes next may well be rejected"


def test_a_later_heartbeat_takes_nothing_from_what_is_vouched_for(replica: Replica) -> None:
    replica.receive_append("b", 1, (1, 0), 1, 1)
    replica.receive_append("b", 1, (1, 0))
    ((_, reply),) = replica.flush()
    assert reply["next_node_idx"] == 4


def test_what_an_earlier_term_brought_is_not_vouched_for_in_the_next(replica: Replica) -> None:
    replica.receive_append("b", 1, (1, 0), 1, 1)
    replica.receive_append("b", 2, (1, 0))
    ((_, reply),) = replica.flush()
    assert (reply["term"], reply["next_node_idx"]) == (2, 2)


class Asker:
    def __init__(self) -> None:
        self.results: list[int | None] = []

    def __call__(self, index: int | None) -> None:
        self.results.append(index)


def test_reads_that_expired_do_not_pile_up(
    clock: Clock, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_OPEN_READS", 4)
    replica = make()
    replica.lead()  # but cannot serve reads before an entry of its term is committed
    patient = Asker()
    replica.engine.read_index(60.0, patient)
    replica.step()
    held: weakref.WeakSet[Asker] = weakref.WeakSet()
    for _ in range(20):
        asker = Asker()
        held.add(asker)
        replica.engine.read_index(0.05, asker)
        replica.step()
        clock.time_s += 0.09
        for peer in "bc":
            replica.answer(peer, STORE_NOTHING)
        replica.step()
        assert asker.results == [None]
    assert len(held) <= 4
    assert patient.results == []
    for _ in range(2):
        for peer in "bc":
            replica.answer(peer, replica.raft.last_index + 1)
        replica.step()
    replica.answer("b", replica.raft.last_index + 1)
    replica.step()
    assert patient.results == [2]


# --- what this release cannot take part in --------------------------------------------------------
def test_an_entry_of_unknown_kind_stops_the_replica(replica: Replica) -> None:
    told: list[Any] = []
    replica.listener.committed = lambda *entry: told.append(entry)
    message = {"type": "append_entries", "term": 1, "round": 1, "commit_index": 3}
    entries = [(b"\0known", 2, 1), (b"\x7fnew", 3, 1)]
    replica.receive("b", **message, prevLogIdx=1, prevLogTerm=0, entries=entries)
    replica.step()
    assert told == [(2, 1, b"known")]
    assert "entry 3 is of a kind" in (replica.listener.failure or "")


def test_bootstrap_that_was_left_on_is_warned_of(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    replica = make(bootstrap=True)
    assert "bootstrap" not in caplog.text
    make(replica.disk)
    assert "bootstrap" not in caplog.text
    make(replica.disk, bootstrap=True)
    assert "bootstrap is for the first start" in caplog.text
