"""A cluster of one: no network, so every rule of the port can be looked at closely."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pysyncobj.journal import MemoryJournal

from agentkeeper.consensus import limits
from agentkeeper.consensus.config import RaftConfig
from agentkeeper.consensus.engine import RaftEngine
from agentkeeper.consensus.port import Outcome, Role, StartError
from agentkeeper.consensus.raft import HardenedRaft
from agentkeeper.consensus.storage import TrimmableJournal


class Listener:
    def __init__(self) -> None:
        self.entries: list[tuple[int, bytes]] = []
        self.roles: list[tuple[Role, int, str | None]] = []
        self.restored_at: list[tuple[int, bytes]] = []
        self.wanted = 0
        self.failure: str | None = None
        self.raise_at: bytes | None = None

    def committed(self, index: int, term: int, payload: bytes) -> None:
        if payload == self.raise_at:
            raise ValueError("broken")
        self.entries.append((index, payload))

    def restored(self, index: int, term: int, snapshot: bytes) -> None:
        self.restored_at.append((index, snapshot))

    def role_changed(self, role: Role, term: int, leader_id: str | None) -> None:
        self.roles.append((role, term, leader_id))

    def received(self, sender_id: str, payload: bytes) -> None:
        raise AssertionError("nobody else is there")

    def snapshot_wanted(self) -> None:
        self.wanted += 1

    def failed(self, reason: str) -> None:
        self.failure = reason


Make = Callable[..., tuple[RaftEngine, Listener]]


@pytest.fixture
def make() -> Iterator[Make]:
    engines: list[RaftEngine] = []

    def open_engine(
        data_dir: Path | None = None, **settings: object
    ) -> tuple[RaftEngine, Listener]:
        engine, listener = RaftEngine(RaftConfig("a", data_dir, **settings)), Listener()
        engine.open(listener)
        engines.append(engine)
        return engine, listener

    yield open_engine
    for engine in engines:
        engine.stop()


def propose(engine: RaftEngine, payload: bytes, timeout_s: float = 30.0) -> list[Outcome]:
    outcomes: list[Outcome] = []
    engine.propose(payload, timeout_s, outcomes.append)
    return outcomes


def test_leads_within_the_first_step(make: Make) -> None:
    engine, listener = make()
    engine.step()
    assert listener.roles == [(Role.LEADER, 1, "a")]
    assert engine.status().leader_id == "a"


def test_commits_within_one_step_and_tells_the_listener_first(make: Make) -> None:
    engine, listener = make()
    engine.step()
    heard: list[int] = []
    engine.propose(b"x", 1.0, lambda outcome: heard.append(len(listener.entries)))
    engine.step()
    assert heard == [1]
    assert listener.entries == [(3, b"x")]


def test_a_read_is_answered_within_one_step(make: Make) -> None:
    engine, _ = make()
    engine.step()
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
    while raft_of(engine).backlog:
        engine.step()
    assert expired == huge == [Outcome.REJECTED]
    assert many.count([Outcome.REJECTED]) >= 1
    assert len(listener.entries) == many.count([Outcome.COMMITTED])
    assert propose_and_step(engine) == [Outcome.COMMITTED]


def propose_and_step(engine: RaftEngine, payload: bytes = b"again") -> list[Outcome]:
    outcomes = propose(engine, payload)
    engine.step()
    return outcomes


def save(engine: RaftEngine, index: int) -> None:
    engine.save_snapshot(index, b"state")
    engine.step()  # writes it
    engine.step()  # trims the log


def raft_of(engine: RaftEngine) -> HardenedRaft:
    assert engine._raft is not None
    return engine._raft


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


@pytest.mark.parametrize("stored", [True, False])
def test_a_snapshot_bounds_the_log_and_keeps_what_follows(
    make: Make, tmp_path: Path, stored: bool
) -> None:
    folder = tmp_path / "data" if stored else None
    engine, listener = make(folder, snapshot_entries=10)
    for number in range(20):
        propose(engine, b"%d" % number)
        engine.step()
    assert listener.wanted == 1
    save(engine, 15)
    raft = engine._raft
    assert raft is not None
    assert (raft.first_index, raft.last_index) == (15, 21)
    if folder is None:
        return
    engine.stop()
    engine, again = make(folder)
    engine.step()
    assert again.restored_at == [(15, b"state")]
    assert again.entries == [entry for entry in listener.entries if entry[0] > 15]


def test_a_crash_between_snapshot_and_trim_loses_nothing(make: Make, tmp_path: Path) -> None:
    engine, listener = make(tmp_path / "data")
    for number in range(20):
        propose(engine, b"%d" % number)
        engine.step()
    shutil.copytree(tmp_path / "data", tmp_path / "before")
    save(engine, 15)
    shutil.copy(tmp_path / "data" / "snapshot", tmp_path / "before")
    engine, again = make(tmp_path / "before")
    engine.step()
    assert again.restored_at == [(15, b"state")]
    assert again.entries == [entry for entry in listener.entries if entry[0] > 15]


def test_refuses_a_damaged_snapshot(make: Make, tmp_path: Path) -> None:
    engine, _ = make(tmp_path)
    propose_and_step(engine)
    propose_and_step(engine)
    save(engine, 3)
    engine.stop()
    data = bytearray((tmp_path / "snapshot").read_bytes())
    data[-1] ^= 1
    (tmp_path / "snapshot").write_bytes(data)
    with pytest.raises(StartError, match="checksum"):
        make(tmp_path)
    (tmp_path / "snapshot").unlink()
    with pytest.raises(StartError, match="log begins at entry 3"):
        make(tmp_path)


def test_refuses_a_folder_in_use_or_of_another_replica(make: Make, tmp_path: Path) -> None:
    engine, _ = make(tmp_path)
    with pytest.raises(StartError, match="in use by another process"):
        make(tmp_path)
    engine.stop()
    with pytest.raises(StartError, match="belongs to replica 'a'"):
        make(tmp_path, peers={"a": "localhost:7400", "b": "localhost:7401"})


def test_refuses_a_log_it_cannot_read(make: Make, tmp_path: Path) -> None:
    engine, _ = make(tmp_path)
    engine.step()
    engine.stop()
    (tmp_path / "log").write_bytes(b"")
    with pytest.raises(StartError, match="cannot be read"):
        make(tmp_path)


def test_begins_anew_where_a_process_died_while_creating_the_log(
    make: Make, tmp_path: Path
) -> None:
    engine, _ = make(tmp_path)
    engine.stop()
    (tmp_path / "log").write_bytes(b"")
    engine, _ = make(tmp_path)
    engine.step()
    assert propose_and_step(engine) == [Outcome.COMMITTED]


def test_refuses_a_log_without_its_term_and_vote(make: Make, tmp_path: Path) -> None:
    engine, _ = make(tmp_path)
    propose_and_step(engine)
    engine.stop()
    (tmp_path / "log.meta").unlink()
    with pytest.raises(StartError, match="term and vote"):
        make(tmp_path)


def test_a_trim_keeps_term_and_vote(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = make(tmp_path)
    for _ in range(5):
        propose_and_step(engine)

    def no_descriptors(path: object, *arguments: object, **options: object) -> object:
        if str(path).endswith(".meta"):
            raise OSError(errno.EMFILE, "Too many open files")
        return real_open(path, *arguments, **options)

    real_open = open
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", no_descriptors)
        save(engine, 5)
    log = raft_of(engine).log
    assert raft_of(engine).first_index == 5
    assert (log.getCurrentTerm(), log.getVotedForNodeId()) == (1, "a")
    for _ in range(100):
        log.add(bytes(1000), raft_of(engine).last_index + 1, 1)
    kept = log[:]
    engine.stop()
    engine, _ = make(tmp_path)
    assert raft_of(engine).log[:] == kept
    assert raft_of(engine).term == 1


def test_a_failure_is_told_and_everyone_answered_even_if_closing_fails(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, listener = make(tmp_path)
    propose_and_step(engine)
    propose_and_step(engine)

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TrimmableJournal, "_destroy", fail)
    monkeypatch.setattr(TrimmableJournal, "deleteEntriesTo", fail)
    engine.save_snapshot(3, b"state")
    engine.step()
    open_ = propose(engine, b"x")
    engine.step()
    assert "No space left" in (listener.failure or "")
    assert open_ in ([Outcome.REJECTED], [Outcome.UNKNOWN])
    assert propose(engine, b"y") == [Outcome.REJECTED]
    assert (engine.status().role, engine.status().leader_id) == (Role.FOLLOWER, None)


def test_a_trim_that_fails_leaves_the_log_as_it_was(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = make(tmp_path)
    for _ in range(5):
        propose_and_step(engine)

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    log = raft_of(engine).log
    before = log[:]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="No space"):
            log.deleteEntriesTo(3)
    log.add(b"x", before[-1][1] + 1, 1)
    engine.stop()
    engine, _ = make(tmp_path)
    assert raft_of(engine).log[:-1] == before


def test_stop_after_a_failed_start_is_harmless(make: Make, tmp_path: Path) -> None:
    engine, _ = make(tmp_path)
    propose_and_step(engine)
    propose_and_step(engine)
    save(engine, 3)
    engine.stop()
    (tmp_path / "snapshot").write_bytes(b"damaged")
    engine = RaftEngine(RaftConfig("a", tmp_path))
    with pytest.raises(StartError, match="cannot be read"):
        engine.open(Listener())
    engine.stop()
    engine.stop()


def test_a_proposal_whose_entry_cannot_be_written_ends(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, listener = make()
    engine.step()

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(MemoryJournal, "add", fail)
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


def test_a_snapshot_that_cannot_be_written_leaves_nothing_behind(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = make(tmp_path)
    propose_and_step(engine)
    propose_and_step(engine)

    def fail(descriptor: int) -> None:
        raise RuntimeError("unforeseen")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        save(engine, 3)
    assert not list(tmp_path.glob("snapshot*"))
    save(engine, 3)
    assert raft_of(engine).snapshots.latest_index == 3


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


def test_the_same_entries_come_again_after_a_restart(make: Make, tmp_path: Path) -> None:
    engine, listener = make(tmp_path)
    engine.step()
    assert propose_and_step(engine) == [Outcome.COMMITTED]
    engine.stop()
    engine, again = make(tmp_path)
    engine.step()
    assert again.entries == listener.entries
    assert again.roles == [(Role.LEADER, 2, "a")]
