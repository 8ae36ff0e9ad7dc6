"""A cluster of one and its data folder."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import lone_engine
import pytest
from lone_engine import Listener, Make, lead, propose, propose_and_step, raft_of, save
from raft_world import SmallSegments

from agentkeeper.consensus import storage
from agentkeeper.consensus.ballot import Ballot
from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.disk import OsDisk
from agentkeeper.consensus.engine import RaftEngine
from agentkeeper.consensus.journal import Journal
from agentkeeper.consensus.port import Outcome, Role, StartError

make = lone_engine.make


@pytest.mark.parametrize("stored", [True, False])
def test_a_snapshot_bounds_the_log_and_keeps_what_follows(
    make: Make, tmp_path: Path, stored: bool
) -> None:
    folder = tmp_path / "data" if stored else None
    engine, listener = make(folder, snapshot_entries=10)
    for number in range(20):
        propose_and_step(engine, b"%d" % number)
    assert listener.wanted == 1
    save(engine, 15)
    raft = engine._raft
    assert raft is not None
    assert (raft.first_index, raft.last_index) == (15, 21)
    if folder is None:
        return
    engine.stop()
    engine, again = make(folder)
    lead(engine)
    assert again.restored_at == [(15, b"state")]
    assert again.entries == [entry for entry in listener.entries if entry[0] > 15]


def test_a_crash_between_snapshot_and_trim_loses_nothing(make: Make, tmp_path: Path) -> None:
    engine, listener = make(tmp_path / "data")
    for number in range(20):
        propose_and_step(engine, b"%d" % number)
    shutil.copytree(tmp_path / "data", tmp_path / "before")
    save(engine, 15)
    shutil.copy(tmp_path / "data" / "snapshot", tmp_path / "before")
    engine, again = make(tmp_path / "before")
    lead(engine)
    assert again.restored_at == [(15, b"state")]
    assert again.entries == [entry for entry in listener.entries if entry[0] > 15]


def test_refuses_a_damaged_snapshot(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "Journal", SmallSegments)
    engine, _ = make(tmp_path)
    for _ in range(4):
        propose_and_step(engine, bytes(2000))
    save(engine, 5)
    propose_and_step(engine)
    engine.stop()
    data = bytearray((tmp_path / "snapshot").read_bytes())
    data[-1] ^= 1
    (tmp_path / "snapshot").write_bytes(data)
    with pytest.raises(StartError, match="checksum"):
        make(tmp_path)
    (tmp_path / "snapshot").unlink()
    with pytest.raises(StartError, match="log begins at entry 5"):
        make(tmp_path)


def test_refuses_a_folder_in_use_or_of_another_replica(make: Make, tmp_path: Path) -> None:
    engine, _ = make(tmp_path)
    with pytest.raises(StartError, match="in use by another process"):
        make(tmp_path)
    engine.stop()
    with pytest.raises(StartError, match="belongs to replica 'a'"):
        make(tmp_path, peers={"a": "localhost:7400", "b": "localhost:7401"})


@pytest.mark.parametrize("lost", ["ballot", "00000001.log"])
def test_refuses_a_folder_that_is_not_whole(make: Make, tmp_path: Path, lost: str) -> None:
    engine, _ = make(tmp_path)
    propose_and_step(engine)
    engine.stop()
    (tmp_path / lost).unlink()
    with pytest.raises(StartError, match=f"{lost} is damaged"):
        make(tmp_path)


def test_refuses_a_damaged_log(make: Make, tmp_path: Path) -> None:
    engine, _ = make(tmp_path)
    propose_and_step(engine)
    engine.stop()
    data = bytearray((tmp_path / "00000001.log").read_bytes())
    data[-1] ^= 1
    (tmp_path / "00000001.log").write_bytes(data)
    with pytest.raises(StartError, match="does not match its checksum"):
        make(tmp_path)


def test_refuses_a_log_that_is_ahead_of_the_ballot(make: Make, tmp_path: Path) -> None:
    engine, _ = make(tmp_path)
    propose_and_step(engine)
    engine.stop()
    Ballot.create(OsDisk(tmp_path), voter=True).close()
    with pytest.raises(StartError, match=r"stored term is only 0; .* rejoins empty"):
        make(tmp_path)


def test_a_trim_keeps_term_vote_and_what_follows(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "Journal", SmallSegments)
    engine, _ = make(tmp_path)
    for _ in range(5):
        propose_and_step(engine, bytes(2000))
    save(engine, 5)
    propose_and_step(engine)
    assert raft_of(engine).first_index == 5
    assert not (tmp_path / "00000001.log").exists()
    kept = raft_of(engine).log[:]
    engine.stop()
    engine, _ = make(tmp_path)
    assert raft_of(engine).log[:] == kept
    assert (raft_of(engine).term, raft_of(engine).voted_for) == (1, "a")


def test_a_failure_is_told_and_everyone_answered_even_if_closing_fails(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, listener = make(tmp_path)
    propose_and_step(engine)
    propose_and_step(engine)

    def fail(*arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Journal, "flush", fail)
    monkeypatch.setattr(Journal, "close", fail)
    open_ = propose(engine, b"x")
    engine.step()
    assert "Input/output error" in (listener.failure or "")
    assert open_ == [Outcome.UNKNOWN]
    assert propose(engine, b"y") == [Outcome.REJECTED]
    assert (engine.status().role, engine.status().leader_id) == (Role.FOLLOWER, None)


def test_stop_after_a_failed_start_is_harmless(make: Make, tmp_path: Path) -> None:
    engine, _ = make(tmp_path)
    propose_and_step(engine)
    propose_and_step(engine)
    save(engine, 3)
    engine.stop()
    (tmp_path / "snapshot").write_bytes(b"damaged")
    engine = RaftEngine(RaftConfig("a", tmp_path))
    with pytest.raises(StartError, match="is damaged at byte 7"):
        engine.open(Listener())
    engine.stop()
    engine.stop()


def test_a_snapshot_that_cannot_be_written_leaves_nothing_behind(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = make(tmp_path)
    propose_and_step(engine)
    propose_and_step(engine)

    def fail(disk: object, old: str, new: str) -> None:
        raise RuntimeError("unforeseen")

    with monkeypatch.context() as patch:
        patch.setattr(OsDisk, "rename", fail)
        save(engine, 3)
    assert not list(tmp_path.glob("snapshot*"))
    save(engine, 3)
    assert raft_of(engine).snapshots.latest_index == 3


def test_the_same_entries_come_again_after_a_restart(make: Make, tmp_path: Path) -> None:
    engine, listener = make(tmp_path)
    engine.step()
    assert propose_and_step(engine) == [Outcome.COMMITTED]
    engine.stop()
    engine, again = make(tmp_path)
    lead(engine)
    assert again.entries == listener.entries
    assert again.roles == [(Role.LEADER, 2, "a")]
