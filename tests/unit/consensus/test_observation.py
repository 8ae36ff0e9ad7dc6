"""What the engine notes of its work: alone, and as a leader whose peers a test plays."""

from collections.abc import Iterator
from pathlib import Path

import lone_engine
import one_replica
import pytest
from lone_engine import lead, propose_and_step, save
from one_replica import Replica

from agentkeeper.consensus import limits
from agentkeeper.consensus.observation import Observation, StoredSnapshot
from agentkeeper.consensus.port import Outcome

make = lone_engine.make
clock_of_raft = one_replica.clock


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def seen(clock: Clock) -> Observation:
    return Observation(["b", "c"], clock)


def test_a_commit_is_measured_from_appending(seen: Observation, clock: Clock) -> None:
    clock.now_s = 100.5
    seen.proposal_ended(Outcome.COMMITTED, 700, 100.0)
    seen.proposal_ended(Outcome.UNKNOWN, 700, 100.0)
    seen.proposal_ended(Outcome.REJECTED, 0, None)
    assert list(seen.outcomes.values()) == [1, 1, 1]
    assert seen.commit_s.counted().total == pytest.approx(0.5)
    assert seen.commit_s.counted().count == 1
    assert seen.proposal_bytes.counted().total == 700


def test_a_round_trip_lasts_until_the_first_answer_to_it_or_a_later_round(
    seen: Observation, clock: Clock
) -> None:
    for number in range(1, 200):
        seen.round_sent("b", number)
        seen.round_sent("c", number)
        clock.now_s += 0.01
    seen.round_answered("b", 150)
    seen.round_answered("b", 199)
    assert seen.round_trip_s["b"].counted().count == 1, "of many rounds, one is measured"
    assert seen.round_trip_s["b"].counted().total == pytest.approx(1.99), "however slow the peer"
    assert seen.round_trip_s["c"].counted().count == 0
    seen.round_sent("b", 200)
    clock.now_s += 0.25
    seen.round_answered("b", 199)
    assert seen.round_trip_s["b"].counted().count == 1, "no answer to what is measured"
    seen.round_answered("b", 200)
    assert seen.round_trip_s["b"].counted().total == pytest.approx(1.99 + 0.25)


def test_rounds_that_will_not_be_answered_are_forgotten(seen: Observation, clock: Clock) -> None:
    for peer_id in "bc":
        seen.round_sent(peer_id, 1)
    clock.now_s += 100
    seen.rounds_lost(["b"])
    seen.round_answered("b", 1)
    assert seen.round_trip_s["b"].counted().count == 0
    seen.round_sent("b", 2)
    clock.now_s += 0.5
    seen.round_answered("b", 2)
    assert seen.round_trip_s["b"].counted().total == pytest.approx(0.5)
    seen.round_answered("c", 2)
    assert seen.round_trip_s["c"].counted().total == pytest.approx(100.5), "its link held"


def test_leaders_are_counted_when_they_become_known(seen: Observation) -> None:
    for term, leader in [(1, None), (1, "a"), (1, None), (1, "a"), (2, None), (2, "b"), (3, "b")]:
        seen.leader_known(term, leader)
    assert seen.leader_changes == 3


def test_a_snapshot_that_comes_late_is_not_the_newest(seen: Observation) -> None:
    seen.snapshot_stored(10, 1000)
    seen.snapshot_stored(7, 900)
    assert seen.snapshot == StoredSnapshot(10, 1000)


def test_a_leader_notes_commits_rounds_and_refusals(clock_of_raft: object) -> None:
    replica = Replica()
    replica.lead()
    replica.step()
    seen = replica.engine.observation
    rounds = seen.round_trip_s["b"].counted().count
    outcomes = replica.propose(b"some bytes")
    replica.step()
    assert replica.engine.status().proposals == 1
    replica.answer("b", replica.raft.last_index + 1)
    replica.answer("b", replica.raft.last_index + 1)
    replica.step()
    assert outcomes == [Outcome.COMMITTED]
    assert seen.commit_s.counted().count == seen.outcomes[Outcome.COMMITTED] == 1
    assert seen.round_trip_s["b"].counted().count == rounds + 1, "a round is answered once"
    assert seen.round_trip_s["c"].counted().count == 0
    assert seen.leader_changes == 1
    assert replica.engine.status().proposals == 0
    replica.engine.propose(bytes(limits.MAX_PAYLOAD_BYTES + 1), 1.0, outcomes.append)
    replica.step()
    assert seen.outcomes[Outcome.REJECTED] == 1


def test_a_link_that_drops_and_a_lost_leadership_end_what_is_measured(
    clock_of_raft: object,
) -> None:
    replica = Replica()
    replica.lead()
    replica.step()
    seen = replica.engine.observation
    for peer in "bc":
        replica.answer(peer, replica.raft.last_index + 1)
    counts = {peer: seen.round_trip_s[peer].counted().count for peer in "bc"}
    assert counts == {"b": 1, "c": 1}
    replica.propose(b"some bytes")
    replica.step()
    replica.relink("b")
    for peer in "bc":
        replica.answer(peer, replica.raft.last_index + 1)
    counts = {peer: seen.round_trip_s[peer].counted().count for peer in "bc"}
    assert counts == {"b": 1, "c": 2}, "what was on its way to b was lost"
    replica.propose(b"more bytes")
    replica.step()
    assert set(seen._measured) == {"b", "c"}
    replica.append("b", replica.raft.term + 1, (1, 0))
    assert not replica.raft.leads
    assert not seen._measured


def test_what_the_log_held_when_it_was_opened(make: lone_engine.Make, tmp_path: Path) -> None:
    engine, _ = make(tmp_path)
    lead(engine)
    propose_and_step(engine, b"x")
    last_index = engine.status().last_log_index
    assert engine.observation.opened_index < last_index
    engine.stop()
    again, _ = make(tmp_path)
    assert again.observation.opened_index == last_index


def test_syncs_and_snapshots_of_a_folder(make: lone_engine.Make, tmp_path: Path) -> None:
    engine, _ = make(tmp_path)
    lead(engine)
    syncs = engine.observation.sync_s.counted().count
    propose_and_step(engine, b"x")
    assert engine.observation.sync_s.counted().count > syncs
    assert engine.observation.snapshot is None
    status = engine.status()
    save(engine, status.delivered_index)
    assert engine.observation.snapshot is not None
    assert engine.observation.snapshot.index == status.delivered_index
    assert engine.observation.snapshot.size_bytes == len(b"state")
    assert engine.observation.snapshot_save_s.counted().count == 1
    assert engine.status().first_log_index == status.delivered_index
    engine.stop()
    again, _ = make(tmp_path)
    assert again.observation.snapshot is not None
    assert again.observation.snapshot.index == status.delivered_index


def test_a_snapshot_that_cannot_be_stored(make: lone_engine.Make, tmp_path: Path) -> None:
    engine, _ = make(tmp_path)
    lead(engine)
    propose_and_step(engine, b"x")

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise OSError("no room")

    engine.save_snapshot(engine.status().delivered_index, broken())
    engine.step()
    engine.step()  # is told
    assert engine.observation.snapshots_failed == 1
    assert engine.observation.snapshot is None


def test_without_a_folder_nothing_is_synced(make: lone_engine.Make) -> None:
    engine, _ = make()
    lead(engine)
    propose_and_step(engine, b"x")
    assert engine.observation.sync_s.counted().count == 0
